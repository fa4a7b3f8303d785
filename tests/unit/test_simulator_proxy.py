"""The CONNECT proxy leads to the simulator only, knows its users, and fails as told."""

from __future__ import annotations

import socket
import time

import pytest
import requests

from simulator import proxy
from simulator.catalogue import by_title
from simulator.testing import RunningSimulator

PREFLIGHT = "https://www.youtube.com/generate_204"
TRAIN = by_title("The Seven O'Clock Train")


def through(
    simulator: RunningSimulator, url: str, user: str = "", timeout_s: float = 10
) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        at = f"{user}@" if user else ""
        session.proxies = {"https": f"http://{at}127.0.0.1:{simulator.proxy_port}"}
        return session.get(url, verify=str(simulator.ca_file), timeout=timeout_s)


def test_without_users_everybody_is_let_in(simulator: RunningSimulator) -> None:
    assert through(simulator, PREFLIGHT).status_code == 204
    (connect,) = simulator.connects()
    assert (connect["target"], connect["status"]) == ("www.youtube.com:443", 200)
    (entry,) = simulator.requests(endpoint="generate_204")
    assert entry["proxy_user"] == ""


def test_the_site_knows_which_user_a_connection_comes_from(simulator: RunningSimulator) -> None:
    simulator.set_proxy_users({"alice": {"password": "p+w/d@1"}})
    through(simulator, PREFLIGHT, "alice-sessid-9f3c-sesstime-10:p%2Bw%2Fd%401")
    (entry,) = simulator.requests(endpoint="generate_204")
    assert entry["proxy_user"] == "alice-sessid-9f3c-sesstime-10"


@pytest.mark.parametrize("user", ["", "alice:wrong", "bob:secret", "alice:"])
def test_wrong_credentials_are_refused(simulator: RunningSimulator, user: str) -> None:
    simulator.set_proxy_users({"alice": {"password": "secret"}})
    with pytest.raises(requests.exceptions.ProxyError, match="407"):
        through(simulator, PREFLIGHT, user)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/", "https://youtube.com.example.com/", "https://www.youtube.com:8080/"],
)
def test_no_other_address_can_be_reached(simulator: RunningSimulator, url: str) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        through(simulator, url)


def test_only_connect_is_spoken(simulator: RunningSimulator) -> None:
    with socket.create_connection(("127.0.0.1", simulator.proxy_port), timeout=10) as raw:
        raw.sendall(b"GET http://www.youtube.com/ HTTP/1.1\r\nHost: www.youtube.com\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("http_403", requests.exceptions.ProxyError),
        ("http_407", requests.exceptions.ProxyError),
        ("http_429", requests.exceptions.ProxyError),
        ("http_502", requests.exceptions.ProxyError),
        ("reset", requests.exceptions.ConnectionError),
        ("hang", requests.exceptions.ConnectionError),
        ("tunnel_hang", requests.exceptions.ConnectionError),
        ("tunnel_reset", requests.exceptions.ConnectionError),
    ],
)
def test_a_users_proxy_fails_as_told_and_nobody_elses(
    simulator: RunningSimulator, fault: str, error: type[Exception]
) -> None:
    simulator.set_proxy_users({"bad": {"password": "x", "fault": fault}, "good": {"password": "x"}})
    watch = f"https://www.youtube.com/watch?v={TRAIN.id}"
    with pytest.raises((error, requests.exceptions.Timeout)):
        through(simulator, watch, "bad:x", timeout_s=1)
    assert through(simulator, watch, "good:x").ok


def test_a_slow_proxy_works_after_its_seconds(simulator: RunningSimulator) -> None:
    simulator.set_proxy_users({"slow": {"password": "x", "fault": "slow", "seconds": 0.3}})
    started = time.monotonic()
    assert through(simulator, PREFLIGHT, "slow:x").status_code == 204
    assert time.monotonic() - started >= 0.3


def test_every_proxy_fault_is_tested() -> None:
    marks = test_a_users_proxy_fails_as_told_and_nobody_elses.pytestmark  # type: ignore[attr-defined]
    tested = {fault for fault, _ in marks[0].args[1]}
    assert tested | {"slow"} == set(proxy.FAULTS)


def test_youtube_can_block_one_exit_and_not_another(simulator: RunningSimulator) -> None:
    simulator.set_proxy_users(
        {"burnt": {"password": "x", "site_faults": ["recaptcha"]}, "fresh": {"password": "x"}}
    )
    watch = f"https://www.youtube.com/watch?v={TRAIN.id}"
    assert "g-recaptcha" in through(simulator, watch, "burnt-sessid-1:x").text
    assert "g-recaptcha" not in through(simulator, watch, "fresh-sessid-1:x").text
