"""The proxy pool by masked id: health, probes, and why jobs changed their proxy."""

from __future__ import annotations

from ..answers import Answers
from ..shapes import Proxy, ProxyProbes
from .performance import success_ratio


def build(answers: Answers) -> Proxy | None:
    if answers.gone_quiet("proxies", "proxy_preflights"):
        return None
    ids = sorted({proxy for (proxy,) in answers.by("proxy_preflights", "proxy")} - {""})
    return {
        "pool": answers.tally("proxies", "state"),
        "rotations": answers.tally("proxy_rotations", "reason"),
        "proxies": [_probes(answers, proxy) for proxy in ids],
        "success_ratio": {
            "with_proxy": _ratio(answers, "true"),
            "direct": _ratio(answers, "false"),
        },
        "series": answers.chart("proxies_over_time", "{proxy}", as_="proxies"),
    }


def _ratio(answers: Answers, flag: str) -> float | None:
    # No error type is asked for: callers' mistakes never reach a stage.
    return success_ratio(answers.by("proxied_attempts", "outcome", "error_type", proxy_used=flag))


def _probes(answers: Answers, proxy: str) -> ProxyProbes:
    times = answers.by("proxy_preflight_times", "quantile", proxy=proxy)
    return {
        "proxy": proxy,
        "probes": answers.tally("proxy_preflights", "outcome", proxy=proxy),
        "p50_s": times.get(("p50",)),
        "p95_s": times.get(("p95",)),
    }
