"""The browser pool: what it holds, what it costs, how long callers waited for it."""

from __future__ import annotations

from ..answers import Answers, ratio
from ..shapes import BrowserContexts


def build(answers: Answers) -> BrowserContexts | None:
    if answers.gone_quiet("contexts", "contexts_limit", "browser_memory", "context_leases"):
        return None
    leases = answers.tally("context_leases", "reused")
    contexts = answers.by("contexts", "profile", "state")
    memory = answers.by("browser_memory", "instance")
    wait = answers.by("context_wait", "quantile")
    created = answers.tally("contexts_created", "profile")
    return {
        "contexts": [
            {"profile": profile, "state": state, "count": count}
            for (profile, state), count in sorted(contexts.items())
        ],
        "limit": answers.number("contexts_limit"),
        "memory_bytes": sum(memory.values()) if memory else None,
        "workers": [
            {"worker": worker, "bytes": size} for (worker,), size in sorted(memory.items())
        ],
        "memory_threshold_bytes": answers.number("browser_memory_threshold"),
        "created": created,
        "closed": answers.tally("contexts_closed", "reason"),
        "leases": None if leases is None else sum(leases.values()),
        "reuse_ratio": None
        if leases is None
        else ratio(leases.get("true", 0.0), sum(leases.values())),
        "wait_p50_s": wait.get(("p50",)),
        "wait_p95_s": wait.get(("p95",)),
        "age_p95_s": answers.number("context_age_p95"),
        "uses_mean": answers.number("context_uses_mean"),
        "series": [
            *answers.chart("contexts_over_time", "{context}", as_="contexts"),
            *answers.chart("browser_memory_over_time", "By", as_="memory"),
        ],
    }
