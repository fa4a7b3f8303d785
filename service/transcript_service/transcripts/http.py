"""The HTTP session towards YouTube: bounded in time, size and place, able to talk to a stand-in.

The bounds live in the session's adapter, so a library that is handed the session is bound
by them too, and so is every hop of a redirect.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.utils import select_proxy
from urllib3.exceptions import InvalidHeader

from ..proxies import Proxy, tunnel_refusal
from ..resilience.bounded import BodyTooLarge, BoundedAdapter
from ..resilience.deadline import Deadline
from ..settings import Settings
from ..telemetry.vocabulary import ErrorType
from .cookies import jar_for
from .model import TranscriptError

# A watch page is about 1 MB, the captions of a twelve-hour video about 3 MB.
MAX_BODY_BYTES = 20 * 1024 * 1024
# Where pages, captions and sound are. What a player answer or a redirect names besides is
# not asked: it could be an address inside our own network.
DOMAINS = ("youtube.com", "googlevideo.com")
# Where YouTube sends whom it wants to consent, to log in or to solve a captcha.
GATES = frozenset({"consent.google.com", "accounts.google.com", "www.google.com"})
# Nobody waits for longer than a day, whatever a server says: infinity cannot be told on.
_MOST_ASKED_S: Final = 86_400


class ForeignAddress(requests.RequestException):
    """An answer leads away from YouTube, or to plain http."""


def is_youtubes(url: str) -> bool:
    """Whether a URL is https, on the usual port, and of a host of YouTube's own."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or port not in (None, 443) or parts.username is not None:
        return False
    return host in GATES or f".{host}".endswith(tuple(f".{domain}" for domain in DOMAINS))


class YouTubeSession(requests.Session):
    """A session for one stage attempt. Not shared between threads."""

    def __init__(
        self,
        settings: Settings,
        deadline: Deadline,
        proxy: Proxy | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        super().__init__()
        for cookie in jar_for(settings, "desktop") or ():
            self.cookies.set_cookie(cookie)
        # Proxies, credentials and CA files come from the settings alone: what happens to
        # be in the environment must not decide where requests go.
        self.trust_env = False
        self.verify = str(settings.youtube_ca_file) if settings.youtube_ca_file else True
        self.proxies = proxy.as_requests() if proxy else {}
        self.headers["Accept-Language"] = "en-US"
        self.max_redirects = 5
        self.adapters.clear()
        self.mount("", _YouTubeAdapter(settings, deadline, max_body_bytes))

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As the base does, with every way to fail as a `TranscriptError`."""
        try:
            response = super().request(*args, **kwargs)
        except requests.RequestException as error:
            raise _classified(error) from None
        if response.status_code >= 400:
            wait_s = parse_retry_after(response.headers.get("Retry-After", ""))
            raise refused(response.status_code, wait_s)
        return response


# Outlives sessions, so that most attempts begin on a connection that is there. Through a proxy
# each attempt has its own: which proxy is next is decided anew, and so is whether it works.
_connections: Final = urllib3.PoolManager(maxsize=16)


class _YouTubeAdapter(BoundedAdapter):
    """Asks YouTube's hosts only, and resolves them as told."""

    def __init__(self, settings: Settings, deadline: Deadline, max_body_bytes: int) -> None:
        self._settings = settings
        self._connect_to: str | None = None
        super().__init__(
            deadline,
            max_body_bytes=max_body_bytes,
            connect_s=settings.connect_timeout_s,
            read_s=settings.read_timeout_s,
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Take what is there already."""
        self.poolmanager = _connections

    def close(self) -> None:
        """Close the connections through proxies."""
        for proxy in self.proxy_manager.values():
            proxy.clear()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """See `BoundedAdapter.send`.

        Raises:
            ForeignAddress: the address is none of YouTube's.
        """
        if not is_youtubes(request.url or ""):
            raise ForeignAddress("an answer leads away from YouTube")
        # A proxy looks names up itself, for Chromium too.
        proxied = bool(select_proxy(request.url or "", kwargs.get("proxies")))
        self._connect_to = None if proxied else self._settings.youtube_resolve_to
        if self._connect_to and request.url:
            # A copy: `requests` makes the request of a redirect from this one.
            request = request.copy()
            request.headers["Host"] = urlsplit(request.url or "").netloc
        return super().send(request, *args, **kwargs)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Connect elsewhere under the same name, like `curl --connect-to`."""
        attributes: Any = super().build_connection_pool_key_attributes(request, verify, cert)
        host, pool = attributes
        if self._connect_to:
            pool["server_hostname"] = pool["assert_hostname"] = host["host"]
            name, _, port = self._connect_to.rpartition(":")
            host["host"], host["port"] = name, int(port)
        return host, pool


def _classified(error: requests.RequestException) -> TranscriptError:
    """What a failed exchange means; the text keeps nothing of the original, which quotes URLs."""
    if isinstance(error, requests.exceptions.ProxyError):
        detail = "The proxy refused or failed."
        return TranscriptError("proxy_error", detail, status=tunnel_refusal(error))
    if isinstance(error, requests.Timeout):
        return TranscriptError("timeout", "YouTube did not answer in time.")
    if isinstance(error, ForeignAddress):
        return TranscriptError("parse_error", "YouTube's answer leads away from YouTube.")
    if isinstance(error, BodyTooLarge):
        return TranscriptError("parse_error", "YouTube's answer is too large.")
    return TranscriptError("connection_error", "The connection to YouTube failed.")


def refused(status: int, retry_after_s: float | None = None) -> TranscriptError:
    """The error for a status of 400 or more."""
    error_type: ErrorType = "http_4xx" if status < 500 else "http_5xx"
    detail = f"YouTube answered {status}."
    if status == 429:
        error_type, detail = "ip_blocked", "YouTube refuses this address for now (429)."
    return TranscriptError(error_type, detail, retry_after_s=retry_after_s, status=status)


def parse_retry_after(value: str) -> float | None:
    """Seconds to wait according to a `Retry-After` header (RFC 9110, section 10.2.3).

    Returns `None` for what is neither seconds nor a date; a date in the past is 0, and more
    than a day is a day.
    """
    try:
        return float(urllib3.Retry(retry_after_max=_MOST_ASKED_S).parse_retry_after(value))
    except (InvalidHeader, ValueError, OverflowError):  # the latter two of absurd numbers
        return None
