"""Which contexts may be shared, and what of an identity may be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from transcript_service.browser.identity import DEVICES, Identity
from transcript_service.proxies import Proxy

PROXY = {"server": "http://proxy.test:8080", "username": "user", "password": "p+w/d@1"}
COOKIE = {"name": "SOCS", "value": "secret-value", "domain": ".youtube.com", "path": "/"}


def test_the_same_profile_proxy_and_cookies_are_the_same_identity() -> None:
    one = Identity.of("desktop", PROXY, [COOKIE, {**COOKIE, "name": "CONSENT"}])
    other = Identity.of("desktop", dict(PROXY), [{**COOKIE, "name": "CONSENT"}, dict(COOKIE)])
    assert one.key == other.key


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("profile", Identity.of("mobile", PROXY, [COOKIE])),
        ("proxy server", Identity.of("desktop", {**PROXY, "server": "http://x:1"}, [COOKIE])),
        ("proxy user", Identity.of("desktop", {**PROXY, "username": "other"}, [COOKIE])),
        ("proxy password", Identity.of("desktop", {**PROXY, "password": "other"}, [COOKIE])),
        ("no proxy", Identity.of("desktop", None, [COOKIE])),
        ("cookie value", Identity.of("desktop", PROXY, [{**COOKIE, "value": "other"}])),
        ("no cookies", Identity.of("desktop", PROXY)),
        ("certificates", Identity.of("desktop", PROXY, [COOKIE], ignore_https_errors=True)),
    ],
)
def test_any_difference_makes_another_identity(what: str, other: Identity) -> None:
    assert Identity.of("desktop", PROXY, [COOKIE]).key != other.key, what


def test_neither_key_nor_repr_show_credentials_or_cookies() -> None:
    identity = Identity.of("desktop", PROXY, [COOKIE])
    for secret in ("user", "p+w/d@1", "secret-value"):
        assert secret not in identity.key + repr(identity)


def test_credentials_inside_the_address_are_refused_without_repeating_them() -> None:
    with pytest.raises(ValueError, match="must not carry credentials") as caught:
        Proxy("http://user:hidden@proxy.test:8080")
    assert "hidden" not in str(caught.value)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="desktop, mobile"):
        Identity.of("tablet")


@pytest.mark.parametrize("proxy", [PROXY, Proxy.of(PROXY)])
def test_a_proxy_is_understood_in_any_form_and_its_password_stays_raw(
    proxy: Mapping[str, Any] | Proxy,
) -> None:
    assert Identity.of("desktop", proxy).options("156.0.1.2")["proxy"] == PROXY


@pytest.mark.parametrize("profile", list(DEVICES))
def test_the_user_agent_names_the_browser_that_runs(profile: str) -> None:
    options = Identity.of(profile).options("156.0.8078.79")
    assert "Chrome/156.0.0.0" in options["user_agent"]
    assert "Headless" not in options["user_agent"]
    assert options["is_mobile"] is (profile == "mobile")


def test_certificate_errors_are_ignored_only_when_asked_for() -> None:
    assert "ignore_https_errors" not in Identity.of("desktop").options("1")
    assert Identity.of("desktop", ignore_https_errors=True).options("1")["ignore_https_errors"]
