"""Who a context is: profile, proxy and cookies, and the key under which it may be shared."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from ..proxies import Proxy
from ..telemetry.vocabulary import Profile

Cookie = Mapping[str, Any]

# Which device a profile pretends to be, in Playwright's options. The user agent names the
# version of the browser that really runs: one that disagrees with the client hints Chromium
# sends along is what bot checks look for first. Versions are written in the reduced form
# (`156.0.0.0`, and `Android 10; K` on phones) that Chrome has sent since 110.
DEVICES: Final[Mapping[Profile, Mapping[str, Any]]] = {
    "desktop": {
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/{major}.0.0.0 Safari/537.36",
        # Wide enough for the two-column watch page, whose right column holds the transcript.
        "viewport": {"width": 1366, "height": 768},
        "is_mobile": False,
    },
    "mobile": {
        "user_agent": "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/{major}.0.0.0 Mobile Safari/537.36",
        "viewport": {"width": 390, "height": 844},
        # Real phones have 3; every step squares the memory of the painted page.
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}

# Keys are written to logs. Keyed with a secret of this process, they cannot be used to
# try out passwords.
_SALT: Final = secrets.token_bytes(32)


@dataclass(frozen=True)
class Identity:
    """What makes two contexts the same one."""

    profile: Profile
    proxy: Proxy | None = None
    cookies: tuple[Cookie, ...] = field(default=(), repr=False)
    ignore_https_errors: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        # Hashed from the finished options, so that an option can never be added to the
        # context and forgotten in the key.
        text = _in_order([self.profile, self.options("0"), self.cookies])
        digest = hashlib.blake2b(text.encode(), key=_SALT, digest_size=8).hexdigest()
        object.__setattr__(self, "key", f"{self.profile}-{digest}")

    @classmethod
    def of(
        cls,
        profile: str,
        proxy: Proxy | Mapping[str, Any] | None = None,
        cookies: Sequence[Cookie] | None = None,
        *,
        ignore_https_errors: bool = False,
    ) -> Identity:
        """Build one from what a caller passes.

        Raises:
            ValueError: unknown profile, or credentials inside the proxy's address.
        """
        if profile not in DEVICES:
            raise ValueError(f"profile must be one of {', '.join(DEVICES)}, not {profile!r}")
        return cls(
            profile=cast("Profile", profile),
            proxy=Proxy.of(proxy) if proxy is not None else None,
            # Cookies are a set: their order must not make another identity.
            cookies=tuple(sorted(map(dict, cookies or ()), key=_in_order)),
            ignore_https_errors=ignore_https_errors,
        )

    def options(self, browser_version: str) -> dict[str, Any]:
        """All keyword arguments for Playwright's `new_context`."""
        device = DEVICES[self.profile]
        options: dict[str, Any] = {
            **device,
            "user_agent": device["user_agent"].format(major=browser_version.split(".", 1)[0]),
            "locale": "en-US",
            "accept_downloads": False,
            # A service worker answers requests before `route` and `expect_response` see
            # them, and would live on in the context.
            "service_workers": "block",
        }
        if self.proxy is not None:
            options["proxy"] = self.proxy.as_playwright()
        if self.ignore_https_errors:
            options["ignore_https_errors"] = True
        return options


def _in_order(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
