"""The proxy pool by masked id: health, probes, and why jobs changed their proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import queries
from ..answers import Answers, Block
from ..shapes import Proxy, ProxyProbes
from .performance import success_ratio


def _build(answers: Answers) -> Proxy | None:
    if answers.gone_quiet("proxies", "proxy_preflights"):
        return None
    used = answers.by("proxied_attempts", "proxy_used", "outcome")
    return {
        "pool": answers.tally("proxies", "state"),
        "rotations": answers.tally("proxy_rotations", "reason"),
        "proxies": _proxies(answers),
        "success_ratio": {"with_proxy": _ratio(used, "true"), "direct": _ratio(used, "false")},
        "series": answers.chart("proxies_over_time", "{proxy}", as_="proxies"),
    }


def _ratio(used: Mapping[tuple[str, ...], float], flag: str) -> float | None:
    # without error types: callers' mistakes never reach a stage
    return success_ratio({(o, ""): n for (u, o), n in used.items() if u == flag})


def _proxies(answers: Answers) -> list[ProxyProbes]:
    times = answers.by("proxy_preflight_times", "proxy", "quantile")
    ids = {sample.labels.get("proxy", "") for sample in answers.samples("proxy_preflights")}
    return [
        {
            "proxy": proxy,
            "probes": answers.tally("proxy_preflights", "outcome", proxy=proxy),
            "p50_s": times.get((proxy, "p50")),
            "p95_s": times.get((proxy, "p95")),
        }
        for proxy in sorted(ids - {""})
    ]


PROXY: Final = Block(
    "proxy",
    "proxy:read",
    "The proxy pool by masked id",
    Proxy,
    queries.PROXY,
    _build,
)
