"""Caption URLs as YouTube hands them out: signed, dated, and gated for the web page."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

from simulator.model import Track

LIFETIME_S = 21_600
"""Six hours, the span between fetch and ``expire`` in the recorded answers."""


class CaptionUrls:
    """Makes caption URLs and tells whether a request's query is one of them."""

    def __init__(self, secret: bytes, host: str = "www.youtube.com") -> None:
        self._secret = secret
        self._host = host

    def make(
        self, video: str, track: Track, *, now: float, gate: str | None, fmt: str | None
    ) -> str:
        """The ``baseUrl`` of a track.

        ``gate`` is "xpe" or "xpv" where the URL needs a proof-of-origin token,
        ``fmt`` the format it asks for by itself (ANDROID answers carry srv3).
        ``now`` is in Unix seconds; the URL is good for :data:`LIFETIME_S` from there.
        """
        signed = {
            "v": video,
            "ei": hashlib.sha256(f"{video}{int(now)}".encode()).hexdigest()[:22],
            "caps": "asr",
            "opi": "112496729",
            **({"exp": gate} if gate else {}),
            "xoaf": "5",
            "hl": "en",
            "ip": "0.0.0.0",  # noqa: S104 - how the recordings show the client's address
            "ipbits": "0",
            "expire": str(int(now) + LIFETIME_S),
        }
        names = ["ip", "ipbits", "expire", "v", "ei", "caps", "opi"]
        names += [*(["exp"] if gate else []), "xoaf"]
        query = {
            **signed,
            "sparams": ",".join(names),
            "signature": self._sign(names, signed),
            "key": "yt8",
            **({"kind": "asr"} if track.kind == "asr" else {}),
            "lang": track.lang,
            **({"fmt": fmt} if fmt else {}),
        }
        return f"https://{self._host}/api/timedtext?{urlencode(query, safe=',')}"

    def refusal(self, query: Mapping[str, str], *, now: float) -> str | None:
        """Why this query is not a URL handed out here and still good; None if it is."""
        try:
            names = query["sparams"].split(",")
            signature = self._sign(names, query)
            expire = int(query["expire"])
        except (KeyError, ValueError):
            return "the signed parameters are incomplete"
        if not hmac.compare_digest(signature, query.get("signature", "")):
            return "the signature does not match"
        if {"v", "expire"} - set(names):
            return "video and expiry are not signed"
        if expire <= now:
            return "the URL has expired"
        return None

    def _sign(self, names: list[str], values: Mapping[str, str]) -> str:
        text = "&".join(f"{name}={values[name]}" for name in names)
        digest = hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest().upper()
        return f"{digest[:40]}.{digest[24:]}"


def needs_token(query: Mapping[str, str]) -> bool:
    """Whether YouTube answers this caption URL with nothing for want of a token.

    A gated URL needs ``pot`` and ``c=WEB`` together; ``pot`` alone was measured
    to give an empty body too.
    """
    gated = {"xpe", "xpv"} & set(query.get("exp", "").split(","))
    return bool(gated) and not (query.get("pot") and query.get("c") == "WEB")
