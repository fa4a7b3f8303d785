"""How each way to a transcript is doing, and how YouTube refuses."""

from __future__ import annotations

from typing import Final

from grafana.model import COUNT, PER_SECOND, RATIO, SECONDS, Board, Row
from grafana.panels import (
    SERVICE,
    error_to_traces,
    graph,
    heatmap,
    latency,
    stage_to_logs,
    table,
)

_SELECT = f'{SERVICE}, stage=~"$stage"'


def _stage(more: str = "") -> str:
    return f"transcript_stage_duration_seconds{{{_SELECT}{more}}}"


_TRIED = _stage(', outcome!="skipped"')
_OK = _stage(', outcome=~"success|no_captions"')
_BLOCKED = _stage(', outcome="blocked"')
_WITH_ERROR = _stage(', error_type!=""')
_UNREADABLE = _stage(', error_type=~"empty_body|html_body|parse_error"')
_WITH_PROFILE = _stage(', profile=~".+"')

_HEALTH = Row(
    "Stages",
    (
        graph(
            "Attempts by stage",
            "Stages tried per second; a later stage runs when the ones before it gave up.",
            PER_SECOND,
            (
                f"sum by (stage) (histogram_count(rate({_TRIED}[$__rate_interval])))",
                "{{stage}}",
            ),
            links=(stage_to_logs(),),
            must_have=True,
        ),
        graph(
            "Success ratio by stage",
            "Share of the attempts that ended with an answer; that a video has no captions is "
            "one. Below half the alert TranscriptStageFailureRatioHigh fires.",
            RATIO,
            (
                f"sum by (stage) (histogram_count(rate({_OK}[$__rate_interval])))"
                f" / sum by (stage) (histogram_count(rate({_TRIED}[$__rate_interval])))",
                "{{stage}}",
            ),
            thresholds={None: "red", 0.5: "orange", 0.9: "green"},
            links=(stage_to_logs(),),
            must_have=True,
        ),
        latency(
            "P95 by stage",
            "Retries included. A dot is one attempt: it opens its trace.",
            (
                f"histogram_quantile(0.95, sum by (stage) (rate({_TRIED}[$__rate_interval])))",
                "{{stage}}",
            ),
            thresholds={None: "green", 30: "red"},
            links=(stage_to_logs(),),
            must_have=True,
        ),
        heatmap(
            "Duration of the chosen stages",
            "How many attempts took how long.",
            SECONDS,
            f"sum(rate({_TRIED}[$__rate_interval]))",
            width=12,
            must_have=True,
        ),
        graph(
            "Outcomes",
            "What the attempts of the chosen stages ended with.",
            PER_SECOND,
            (
                f"sum by (stage, outcome) (histogram_count(rate({_stage()}[$__rate_interval])))",
                "{{stage}} {{outcome}}",
            ),
            stacked=True,
            width=12,
            must_have=True,
        ),
        table(
            "Stages in the chosen time",
            "A click on a row opens the log lines of that stage.",
            COUNT,
            (f"sum by (stage) (histogram_count(increase({_TRIED}[$__range])))", "attempts"),
            (
                f"sum by (stage) (histogram_count(increase({_OK}[$__range])))",
                "answers",
            ),
            (
                f"sum by (stage) (histogram_count(increase({_BLOCKED}[$__range])))",
                "blocked",
            ),
            width=24,
            links=(stage_to_logs(row=True),),
            must_have=True,
        ),
    ),
)

_BLOCKING = Row(
    "Blocking",
    (
        graph(
            "Blocked share by stage",
            "Attempts that YouTube refused: 429, bot check, consent wall, missing token.",
            RATIO,
            (
                f"sum by (stage) (histogram_count(rate({_BLOCKED}[$__rate_interval])))"
                f" / sum by (stage) (histogram_count(rate({_TRIED}[$__rate_interval])))",
                "{{stage}}",
            ),
            thresholds={None: "green", 0.2: "red"},
            links=(stage_to_logs(),),
            must_have=True,
        ),
        graph(
            "Errors by type",
            "A click on a line opens the traces with that error.",
            PER_SECOND,
            (
                f"sum by (error_type) (histogram_count(rate({_WITH_ERROR}[$__rate_interval])))",
                "{{error_type}}",
            ),
            stacked=True,
            links=(error_to_traces(),),
            must_have=True,
        ),
        graph(
            "Unreadable answers",
            "200 with nothing in it, with a page instead of data, or cut off: what a change on "
            "YouTube's side looks like first.",
            PER_SECOND,
            (
                "sum by (stage, error_type) (histogram_count("
                f"rate({_UNREADABLE}[$__rate_interval])))",
                "{{stage}} {{error_type}}",
            ),
            stacked=True,
            links=(error_to_traces(),),
        ),
        table(
            "Errors in the chosen time",
            "By stage and type. A click opens the traces with that error.",
            COUNT,
            (
                "sum by (stage, outcome, error_type) (histogram_count("
                f"increase({_WITH_ERROR}[$__range]))) > 0",
                "attempts",
            ),
            links=(error_to_traces(row=True), stage_to_logs(row=True)),
            must_have=True,
        ),
        graph(
            "Stages not tried",
            "Left out because the breaker was open, the deadline had passed, or the stage is "
            "switched off or has nothing to run on.",
            PER_SECOND,
            (
                "sum by (stage, reason) (rate("
                f"transcript_stage_skipped_total{{{_SELECT}}}[$__rate_interval]))",
                "{{stage}} {{reason}}",
            ),
            stacked=True,
            width=12,
            must_have=True,
        ),
    ),
)

_IDENTITY = Row(
    "With which identity",
    (
        graph(
            "Blocked share with and without a proxy",
            "When only direct attempts are refused, this machine's address is the problem.",
            RATIO,
            (
                f"sum by (proxy_used) (histogram_count(rate({_BLOCKED}[$__rate_interval])))"
                f" / sum by (proxy_used) (histogram_count(rate({_TRIED}[$__rate_interval])))",
                "proxy {{proxy_used}}",
            ),
            width=12,
        ),
        graph(
            "Attempts by browser profile",
            "Which kind of browser the youtubei stage showed itself as.",
            PER_SECOND,
            (
                f"sum by (profile) (histogram_count(rate({_WITH_PROFILE}[$__rate_interval])))",
                "{{profile}}",
            ),
            width=12,
        ),
    ),
)

STAGES_AND_BLOCKING: Final = Board(
    uid="transcripts-stages",
    title="Stages and blocking",
    description="The four ways to a transcript: how often each delivers, and how YouTube refuses.",
    rows=(_HEALTH, _BLOCKING, _IDENTITY),
    variables=("stage",),
)
