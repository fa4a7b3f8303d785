"""Proxies over real sockets: a CONNECT proxy that demands credentials, in front of a site."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from simulator.testing import RunningSimulator, running_simulator
from tests.stalling import drip, stalling
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.proxies import (
    DirectConnectionRefused,
    JobProxy,
    Proxy,
    proxy_pool,
    refuse_direct_connections,
)
from transcript_service.proxies.preflight import PROBE_URL, probe_youtube
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.http import YouTubeSession

PASSWORD = "p+w/d@1:x"
STICKY = "{username}-sessid-{session}"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(simulator: RunningSimulator) -> Iterator[None]:
    simulator.reset()
    simulator.set_proxy_users({"alice": {"password": PASSWORD}, "bob": {"password": PASSWORD}})
    yield
    refuse_direct_connections(False)


def identity(simulator: RunningSimulator, user: str = "alice", password: str = PASSWORD) -> Any:
    return Proxy(f"http://127.0.0.1:{simulator.proxy_port}", user, password, id="p-1")


def settings(simulator: RunningSimulator, users: str = "alice", **values: Any) -> Settings:
    proxies = " ".join(
        f"http://{user}:{PASSWORD}@127.0.0.1:{simulator.proxy_port}" for user in users.split()
    )
    return Settings(
        proxy_list=SecretStr(proxies),
        proxy_session_template=STICKY,
        youtube_ca_file=simulator.ca_file,
    ).model_copy(update=values)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (None, "success"),
        ("http_407", "auth_failed"),
        ("http_403", "blocked"),
        ("http_429", "blocked"),
        ("http_502", "error"),
        ("reset", "error"),
        ("hang", "timeout"),
        ("tunnel_hang", "timeout"),
    ],
)
def test_a_probe_tells_what_is_wrong_with_a_proxy(
    simulator: RunningSimulator, fault: str | None, outcome: str
) -> None:
    simulator.set_proxy_users({"alice": {"password": PASSWORD, "fault": fault}})
    assert probe_youtube(identity(simulator), 1.0, simulator.ca_file) == outcome


def test_a_wrong_password_is_an_authentication_failure(simulator: RunningSimulator) -> None:
    wrong = identity(simulator, password="p%2Bw%2Fd%401%3Ax")
    assert probe_youtube(wrong, 5, simulator.ca_file) == "auth_failed"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("http_429@generate_204", "blocked"),
        ("http_403@generate_204", "blocked"),
        ("http_500@generate_204", "error"),
    ],
)
def test_a_probe_tells_a_site_that_refuses_this_exit(
    simulator: RunningSimulator, fault: str, outcome: str
) -> None:
    simulator.set_faults(fault)
    assert probe_youtube(identity(simulator), 5, simulator.ca_file) == outcome


def test_a_proxy_that_answers_a_byte_now_and_then_is_left_in_time(
    simulator: RunningSimulator,
) -> None:
    with stalling(drip(b"HTTP/1.1 200 ", b"O")) as proxy:
        dripping = Proxy(f"http://127.0.0.1:{proxy.port}", "alice", PASSWORD, id="p-8")
        assert probe_youtube(dripping, 0.5, simulator.ca_file) == "timeout"
        assert proxy.wait_until_left(30)


def test_a_proxy_that_is_not_there_is_an_error(simulator: RunningSimulator) -> None:
    absent = Proxy("http://127.0.0.1:1", "alice", PASSWORD, id="p-9")
    assert probe_youtube(absent, 5, simulator.ca_file) == "error"


def test_the_environment_does_not_decide_where_a_probe_goes(
    simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "www.youtube.com")
    assert probe_youtube(identity(simulator), 5, simulator.ca_file) == "success"


def _with_requests(job: JobProxy, ca_file: Path) -> int:
    assert job.identity is not None
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = job.identity.as_requests()
        return session.get(PROBE_URL, timeout=10, verify=str(ca_file)).status_code


def _with_url(job: JobProxy, ca_file: Path) -> int:
    """As yt-dlp's default client does: urllib with a proxy URL."""
    import ssl

    assert job.identity is not None
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": job.identity.as_url()}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
    )
    with opener.open(PROBE_URL, timeout=10) as response:
        return int(response.status)


def test_one_job_has_one_sticky_user_in_all_clients_and_another_after_rotation(
    simulator: RunningSimulator, telemetry: InMemoryTelemetry
) -> None:
    pool = proxy_pool(settings(simulator))
    job = pool.for_job("job", Deadline(30))
    assert _with_requests(job, simulator.ca_file) == 204
    assert _with_url(job, simulator.ca_file) == 204
    users = {each["user"] for each in simulator.connects()}
    assert len(users) == 1, "probe, requests and urllib are one session"
    assert users.pop().startswith("alice-sessid-")

    assert job.rotate("http_429", Deadline(30))
    assert _with_requests(job, simulator.ca_file) == 204
    assert len({each["user"] for each in simulator.connects()}) == 2
    assert PASSWORD not in telemetry.log_text()


def test_a_job_gets_the_proxy_that_works(
    simulator: RunningSimulator, telemetry: InMemoryTelemetry
) -> None:
    simulator.set_proxy_users(
        {
            "alice": {"password": PASSWORD, "fault": "http_407"},
            "bob": {"password": PASSWORD},
        }
    )
    pool = proxy_pool(settings(simulator, "alice bob"))
    jobs = [pool.for_job(f"job {number}", Deadline(30)) for number in range(6)]
    assert {str(job.identity) for job in jobs} == {"p-2"}
    assert telemetry.metric("proxy.preflight.duration", proxy="p-1", outcome="auth_failed") == 1
    assert telemetry.metric("proxy.pool.proxies", state="quarantined") == 1


_watched: list[tuple[str, Any]] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event in ("socket.connect", "socket.getaddrinfo"):
        _watched.append((event, arguments[1] if event == "socket.connect" else arguments[0]))


sys.addaudithook(_watch)  # cannot be removed; does nothing while `_watched` is None


def test_under_enforcement_every_socket_goes_to_the_proxy_and_a_direct_one_is_refused(
    simulator: RunningSimulator,
) -> None:
    global _watched
    pool = proxy_pool(settings(simulator, enforce_proxy_all=True))
    _watched = []
    try:
        job = pool.for_job("job", Deadline(30))
        assert not job.direct_allowed
        assert _with_requests(job, simulator.ca_file) == 204
        assert _with_url(job, simulator.ca_file) == 204
        with pytest.raises(requests.ConnectionError):
            requests.get(PROBE_URL, timeout=5)
        with pytest.raises(OSError, match="proxies only"):
            urllib.request.urlopen("https://m.youtube.com/", timeout=5)
    finally:
        seen, _watched = _watched, None
    connected = {where for event, where in seen if event == "socket.connect"}
    # The stand-in runs in this process: its proxy's own connection to its site is seen too.
    assert connected - {("127.0.0.1", simulator.port)} == {("127.0.0.1", simulator.proxy_port)}
    assert len(simulator.connects()) == 3


def test_a_direct_attempt_begins_on_the_connection_of_the_last_one(
    simulator: RunningSimulator,
) -> None:
    global _watched
    given = settings(simulator, youtube_resolve_to=simulator.resolve_to)
    connected = []
    for _ in range(2):
        _watched = []
        try:
            with YouTubeSession(given, Deadline(30)) as session:
                assert session.get("https://www.youtube.com/generate_204").status_code == 204
        finally:
            seen, _watched = _watched, None
        connected.append([where for event, where in seen if event == "socket.connect"])
    assert connected == [[("127.0.0.1", simulator.port)], []]


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("www.youtube.com", True),
        ("YOUTUBE.COM.", True),
        ("r3---sn-4g5e6nez.googlevideo.com", True),
        ("localhost", False),
        ("127.0.0.1", False),
        ("notyoutube.com.localhost", False),
    ],
)
def test_only_youtubes_names_are_refused(host: str, refused: bool) -> None:
    import socket

    refuse_direct_connections()
    if refused:
        with pytest.raises(DirectConnectionRefused):
            socket.getaddrinfo(host, 443)
    else:
        try:
            socket.getaddrinfo(host, 443)
        except DirectConnectionRefused:
            pytest.fail("refused")
        except OSError:
            pass  # there may be no resolver here
