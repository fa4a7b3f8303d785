"""What can go wrong, by name; where, how often and for whom it does.

A fault is written ``NAME[@ENDPOINT][:SECONDS][=RATIO]``, for example
``http_429``, ``slow_body@timedtext:3`` or ``reset=0.05``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from simulator.model import REFUSALS

ENDPOINTS = ("watch", "player", "timedtext", "get_transcript", "get_panel", "audio", "generate_204")

_DATA = frozenset({"watch", "player", "timedtext", "get_transcript", "get_panel", "audio"})
_JSON = frozenset({"player", "timedtext", "get_transcript", "get_panel"})

Layer = Literal["delay", "content", "answer", "wire"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    ``layer`` says who carries it out: "delay" only waits, "content" changes
    what the endpoint puts in its answer, "answer" replaces the answer, "wire"
    changes how the bytes travel. ``endpoints`` is where it strikes unless told.
    """

    name: str
    summary: str
    layer: Layer
    endpoints: frozenset[str] = _DATA
    seconds: float = 0.0


def _on(*endpoints: str) -> frozenset[str]:
    return frozenset(endpoints)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "http_400",
            "400 FAILED_PRECONDITION, as get_transcript answers since late 2025",
            "answer",
            _on("get_transcript", "get_panel"),
        ),
        Kind("http_403", "403 Forbidden", "answer"),
        Kind("http_404", "404 Not Found", "answer"),
        Kind(
            "http_429",
            "429 Too Many Requests with Retry-After (the seconds; 2 unless told)",
            "answer",
            seconds=2,
        ),
        Kind("http_500", "500 Internal Server Error", "answer"),
        Kind("http_502", "502 Bad Gateway", "answer"),
        Kind(
            "http_503",
            "503 Service Unavailable with Retry-After (the seconds; 1 unless told)",
            "answer",
            seconds=1,
        ),
        Kind("empty_body", "200 with the right type and no body", "answer"),
        Kind("bomb", "200 with 100 MB of nothing, packed into 100 kB", "answer"),
        Kind("tiny_body", "200 with only the first 20 bytes", "answer"),
        Kind("html_body", "200 with a web page where data was asked for", "answer", _JSON),
        Kind("truncated_json", "200 with the first half of the body, JSON or XML", "answer", _JSON),
        Kind("wrong_type", "the right body labelled text/plain", "answer"),
        Kind(
            "consent",
            "the watch page redirects to consent.youtube.com until a consent cookie is sent",
            "content",
            _on("watch"),
        ),
        Kind(
            "consent_inline",
            "the consent form in place of the watch page until a consent cookie is sent",
            "content",
            _on("watch"),
        ),
        Kind(
            "consent_forever",
            "the consent form in place of the watch page, whatever cookie is sent",
            "content",
            _on("watch"),
        ),
        Kind(
            "consent_dialog",
            "the watch page with the consent dialog over it",
            "content",
            _on("watch"),
        ),
        *(
            Kind(
                name,
                " ".join(filter(None, [f"{said.status}: {said.reason}", said.subreason])),
                "content",
                _on("watch", "player"),
            )
            for name, said in REFUSALS.items()
        ),
        Kind(
            "other_video",
            "an answer about another video",
            "content",
            _on("watch", "player", "get_transcript"),
        ),
        Kind("no_translations", "429 for captions with tlang alone", "content", _on("timedtext")),
        Kind("recaptcha", "200 with the g-recaptcha page and no API key", "content", _on("watch")),
        Kind("no_api_key", "a watch page without INNERTUBE_API_KEY", "content", _on("watch")),
        Kind(
            "po_token",
            "every caption URL carries exp=xpe, also the ANDROID ones",
            "content",
            _on("watch", "player"),
        ),
        Kind(
            "po_token_xpv",
            "every caption URL carries exp=xpv, the gate that clients overlook",
            "content",
            _on("watch", "player"),
        ),
        Kind(
            "expired_signature",
            "caption URLs are handed out expired, so timedtext answers 403",
            "content",
            _on("watch", "player"),
        ),
        Kind(
            "wrong_format",
            "timedtext answers in another format than was asked (srv3 for srv1, srv1 otherwise)",
            "content",
            _on("timedtext"),
        ),
        Kind("no_start", "srv1 <text> elements without start", "content", _on("timedtext")),
        Kind("xml_entities", "XML that declares and uses an entity", "content", _on("timedtext")),
        Kind(
            "unknown_shape",
            "the panel answer in a shape only the page itself understands",
            "content",
            _on("get_transcript", "get_panel"),
        ),
        Kind(
            "endless_script",
            "page script that never ends when the panel is opened",
            "content",
            _on("watch"),
        ),
        Kind(
            "latency",
            "log-normal delay around a usual median per endpoint (or the seconds)",
            "delay",
        ),
        Kind(
            "slow_headers",
            "nothing for the seconds (3 unless told), then the answer",
            "delay",
            seconds=3,
        ),
        Kind(
            "slow_body",
            "the headers at once, the body dribbled over the seconds (3 unless told)",
            "wire",
            seconds=3,
        ),
        Kind("hang", "never answers", "wire"),
        Kind("reset", "the connection is reset in the middle of the body", "wire"),
    )
}

MEDIAN_LATENCY_S: dict[str, float] = {
    "watch": 0.11,
    "player": 0.07,
    "timedtext": 0.05,
    "get_transcript": 0.12,
    "get_panel": 0.12,
    "audio": 0.09,
}
"""What ``latency`` draws around: sizes told by users of the real service, sigma 0.6."""

_SPEC = re.compile(
    r"(?P<name>\w+)(@(?P<endpoint>\w+))?(:(?P<seconds>\d+(\.\d+)?))?(=(?P<ratio>\d+(\.\d+)?))?"
)


class FaultError(ValueError):
    """A fault that does not exist or cannot be meant that way; the text says why in one line."""


@dataclass(slots=True)
class Fault:
    """A switched-on fault.

    ``endpoint`` "*" means wherever the kind usually strikes; ``via`` limits it
    to direct or proxied connections; ``times`` counts down to switched off.
    """

    name: str
    endpoint: str = "*"
    seconds: float | None = None
    ratio: float = 1.0
    times: int | None = None
    via: Literal["any", "direct", "proxy"] = "any"

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise FaultError(
                f"unknown fault {self.name!r}; `python -m simulator faults` lists them"
            )
        if self.endpoint != "*" and self.endpoint not in ENDPOINTS:
            raise FaultError(
                f"unknown endpoint {self.endpoint!r}; there are {', '.join(ENDPOINTS)}"
            )
        if not 0 <= self.ratio <= 1:
            raise FaultError(f"ratio of {self.name} must be between 0 and 1, not {self.ratio:g}")
        if self.seconds is not None and not 0 <= self.seconds <= 3600:
            raise FaultError(f"seconds of {self.name} must be between 0 and 3600")
        if self.times is not None and self.times < 1:
            raise FaultError(f"times of {self.name} must be at least 1")
        if self.via not in ("any", "direct", "proxy"):
            raise FaultError(f"via must be any, direct or proxy, not {self.via!r}")

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """A fault from its notation. Raises FaultError."""
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise FaultError(f"cannot read {spec!r}; write NAME[@ENDPOINT][:SECONDS][=RATIO]")
        return cls(
            name=match["name"],
            endpoint=match["endpoint"] or "*",
            seconds=float(match["seconds"]) if match["seconds"] else None,
            ratio=float(match["ratio"]) if match["ratio"] else 1.0,
        )

    @classmethod
    def from_json(cls, value: object) -> Fault:
        """A fault from its notation or an object of its fields. Raises FaultError."""
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise FaultError('a fault is a text or an object with at least "name"')
        types: dict[str, type | tuple[type, ...]] = {
            "name": str,
            "endpoint": str,
            "via": str,
            "times": int,
            "seconds": (int, float),
            "ratio": (int, float),
        }
        fields = {key: item for key, item in value.items() if item is not None}
        for key, item in fields.items():
            if key not in types or isinstance(item, bool) or not isinstance(item, types[key]):
                raise FaultError(f"a fault has no field {key!r} of this type")
        return cls(**fields)

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def wait_s(self) -> float:
        """The seconds it was given, or its kind's own."""
        return self.kind.seconds if self.seconds is None else self.seconds

    def strikes(self, endpoint: str, *, proxied: bool) -> bool:
        if self.via != "any" and proxied != (self.via == "proxy"):
            return False
        return (
            endpoint == self.endpoint if self.endpoint != "*" else endpoint in self.kind.endpoints
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "endpoint": self.endpoint,
            "seconds": self.seconds,
            "ratio": self.ratio,
            "times": self.times,
            "via": self.via,
        }


@dataclass(slots=True)
class Strike:
    """What happens to one request: a wait in seconds, then at most one fault."""

    delay_s: float = 0.0
    fault: Fault | None = None
    names: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return self.fault is not None and self.fault.name == name


def base_user(name: str) -> str:
    """The account behind a sticky session's user name (``alice-sessid-…-sesstime-10``)."""
    return re.split(r"-(?:sessid|session)-", name, maxsplit=1)[0]


class FaultPlan:
    """All switched-on faults, and the seeded dice.

    Whether a ratio hits depends on the seed and on how many requests this
    (endpoint, video) has had, not on the order of other requests: a run with
    several threads can be repeated.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.everywhere: list[Fault] = []
        self.by_video: dict[str, list[Fault]] = {}
        self.by_proxy_user: dict[str, list[Fault]] = {}
        self._requests: Counter[tuple[str, str]] = Counter()

    def reset(self, *, seed: int | None = None) -> None:
        """Restart the dice; the faults stay."""
        self.seed = self.seed if seed is None else seed
        self._requests.clear()

    def strike(
        self, endpoint: str, video: str, *, proxy_user: str | None, defaults: Iterable[Fault] = ()
    ) -> Strike:
        """Decide for one request: a video's own faults, then its exit's, then the general ones."""
        self._requests[endpoint, video] += 1
        nth = self._requests[endpoint, video]
        outcome = Strike()
        own = self.by_video.get(video)
        layers = (
            list(defaults) if own is None else own,
            self._of_exit(proxy_user),
            self.everywhere,
        )
        for faults in layers:
            for fault in list(faults):
                if not fault.strikes(endpoint, proxied=proxy_user is not None):
                    continue
                if fault.kind.layer != "delay" and outcome.fault is not None:
                    continue
                dice = Random(f"{self.seed}|{fault.name}|{endpoint}|{video}|{nth}")
                if dice.random() >= fault.ratio:
                    continue
                outcome.names.append(fault.name)
                if fault.kind.layer == "delay":
                    outcome.delay_s += self._delay(fault, endpoint, dice)
                else:
                    outcome.fault = replace(fault)  # a copy: the plan may change while it is served
                self._use_up(faults, fault)
        return outcome

    def _of_exit(self, proxy_user: str | None) -> list[Fault]:
        """The faults of a proxy user, or of the account its sticky session belongs to."""
        if proxy_user is None:
            return []
        return self.by_proxy_user.get(proxy_user) or self.by_proxy_user.get(
            base_user(proxy_user), []
        )

    @staticmethod
    def _use_up(faults: list[Fault], fault: Fault) -> None:
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                faults.remove(fault)

    @staticmethod
    def _delay(fault: Fault, endpoint: str, dice: Random) -> float:
        if fault.name != "latency":
            return fault.wait_s
        median = MEDIAN_LATENCY_S.get(endpoint, 0.03) if fault.seconds is None else fault.seconds
        # Ten medians is the 99.99th percentile; the cut keeps a test's wait bounded.
        return median * min(dice.lognormvariate(0, 0.6), 10)
