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
from .profiles import DEVICES

Cookie = Mapping[str, Any]

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
        final = [self.profile, self.options("0"), [dict(cookie) for cookie in self.cookies]]
        text = json.dumps(final, sort_keys=True, default=str)
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
            cookies=tuple(
                sorted(
                    (dict(cookie) for cookie in cookies or ()),
                    key=lambda cookie: json.dumps(cookie, sort_keys=True, default=str),
                )
            ),
            ignore_https_errors=ignore_https_errors,
        )

    def options(self, browser_version: str) -> dict[str, Any]:
        """All keyword arguments for Playwright's `new_context`."""
        options: dict[str, Any] = {
            **DEVICES[self.profile].options(browser_version),
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
