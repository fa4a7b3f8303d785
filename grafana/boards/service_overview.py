"""What users of the service feel: rate, errors, duration, the objectives, the alerts."""

from __future__ import annotations

from typing import Final

from grafana.model import COUNT, RATIO, REQUESTS_PER_SECOND, SECONDS, Board, Link, Row
from grafana.panels import (
    ALERTING,
    RECORDED,
    SERVICE,
    error_to_traces,
    graph,
    heatmap,
    latency,
    stat,
    table,
)

_REQUESTS = f"transcript_requests_total{{{SERVICE}}}"
_DURATION = f"transcript_request_duration_seconds{{{SERVICE}}}"
# The same split as in prometheus/rules/transcripts.yml: "no captions" is an answer.
_ANSWERABLE = f'transcript_requests_total{{{SERVICE}, outcome!="no_captions"}}'
_GOOD = f'transcript_requests_total{{{SERVICE}, outcome="success"}}'
_FAILED = f'transcript_requests_total{{{SERVICE}, outcome!~"success|no_captions"}}'

_NOW = Row(
    "Now",
    (
        stat(
            "Requests",
            "Transcript requests answered per second.",
            REQUESTS_PER_SECOND,
            f"sum(rate({_REQUESTS}[$__rate_interval]))",
            must_have=True,
        ),
        stat(
            "Success ratio",
            "Share of the answerable requests that got a transcript. A video without captions "
            "is an answer and does not count. The objective is 95 % over 30 days.",
            RATIO,
            f"sum(rate({_GOOD}[$__rate_interval])) / sum(rate({_ANSWERABLE}[$__rate_interval]))",
            thresholds={None: "red", 0.8: "orange", 0.95: "green"},
            decimals=1,
            must_have=True,
        ),
        stat(
            "P50",
            "Half of the requests are answered within this time.",
            SECONDS,
            f"histogram_quantile(0.5, sum(rate({_DURATION}[$__rate_interval])))",
            must_have=True,
        ),
        stat(
            "P95",
            "Nineteen of twenty requests are answered within this time; 30 s is the objective.",
            SECONDS,
            f"histogram_quantile(0.95, sum(rate({_DURATION}[$__rate_interval])))",
            thresholds={None: "green", 10: "orange", 30: "red"},
            must_have=True,
        ),
        stat(
            "Firing alerts",
            "Alerts that Prometheus has sent to Alertmanager. The Watchdog, which always fires, is "
            "left out.",
            COUNT,
            f'count(ALERTS{{alertstate="firing", {ALERTING}}}) or vector(0)',
            thresholds={None: "green", 1: "red"},
            must_have=True,
        ),
        stat(
            "Age of the newest metrics",
            "Seconds since the service last delivered metrics; it does so every 15 s. When this "
            "grows, nothing else on this page is about now.",
            SECONDS,
            f"time() - max(timestamp({_REQUESTS}))",
            thresholds={None: "green", 60: "orange", 120: "red"},
            must_have=True,
        ),
    ),
)

_RED = Row(
    "Rate, errors, duration",
    (
        graph(
            "Requests by outcome",
            "What requests ended with.",
            REQUESTS_PER_SECOND,
            (f"sum by (outcome) (rate({_REQUESTS}[$__rate_interval]))", "{{outcome}}"),
            stacked=True,
            must_have=True,
        ),
        graph(
            "Failure ratio",
            "Share of the answerable requests that failed, by kind of failure.",
            RATIO,
            (
                f"sum by (outcome) (rate({_FAILED}[$__rate_interval]))"
                f" / ignoring (outcome) group_left sum(rate({_ANSWERABLE}[$__rate_interval]))",
                "{{outcome}}",
            ),
            stacked=True,
            thresholds={None: "green", 0.05: "orange", 0.2: "red"},
            must_have=True,
        ),
        latency(
            "Latency",
            "Quantiles over all requests. A dot is one request: it opens its trace.",
            (f"histogram_quantile(0.5, sum(rate({_DURATION}[$__rate_interval])))", "P50"),
            (f"histogram_quantile(0.95, sum(rate({_DURATION}[$__rate_interval])))", "P95"),
            (f"histogram_quantile(0.99, sum(rate({_DURATION}[$__rate_interval])))", "P99"),
            thresholds={None: "green", 30: "red"},
            must_have=True,
        ),
        heatmap(
            "Latency of all requests",
            "How many requests took how long; several bands are several ways through the "
            "stages. A dot opens its trace.",
            SECONDS,
            f"sum(rate({_DURATION}[$__rate_interval]))",
            width=12,
            must_have=True,
        ),
        table(
            "Errors by type",
            "Failed requests in the chosen time. A click opens the traces with that error.",
            COUNT,
            (f"sum by (error_type, outcome) (increase({_FAILED}[$__range])) > 0", "requests"),
            links=(error_to_traces(row=True),),
            must_have=True,
        ),
        graph(
            "HTTP answers by route",
            "Every route of the service, the dashboard API and health checks included.",
            REQUESTS_PER_SECOND,
            (
                "sum by (http_route, http_response_status_code) (histogram_count("
                f"rate(http_server_request_duration_seconds{{{SERVICE}}}[$__rate_interval])))",
                "{{http_route}} {{http_response_status_code}}",
            ),
            width=12,
            must_have=True,
        ),
        latency(
            "HTTP P95 by route",
            "As the server measures it, without the way to the client.",
            (
                "histogram_quantile(0.95, sum by (http_route) ("
                f"rate(http_server_request_duration_seconds{{{SERVICE}}}[$__rate_interval])))",
                "{{http_route}}",
            ),
            width=12,
            must_have=True,
        ),
    ),
)

_FALLBACK = Row(
    "Where transcripts come from",
    (
        graph(
            "Transcripts by source",
            "Which stage delivered. A shift to youtubei or asr costs users time before it "
            "costs them answers.",
            REQUESTS_PER_SECOND,
            (f"sum by (source) (rate({_GOOD}[$__rate_interval]))", "{{source}}"),
            stacked=True,
            width=12,
            must_have=True,
        ),
        graph(
            "Fallback share",
            "Share of the fetched transcripts (those from the cache left out) that needed a "
            "browser or speech recognition. The alert TranscriptFallbackShift watches it.",
            RATIO,
            (
                "sum(rate(transcript_requests_total"
                f'{{{SERVICE}, outcome="success", source=~"youtubei|asr"}}[$__rate_interval]))'
                " / sum(rate(transcript_requests_total"
                f'{{{SERVICE}, outcome="success", source!="cache"}}[$__rate_interval]))',
                "youtubei and asr",
            ),
            ("max(threshold:transcript_fallback:ratio)", "alert above"),
            width=12,
            must_have=True,
        ),
        graph(
            "Waiting to be answered later",
            "Requests that asked for a job instead of an answer and wait for a thread.",
            COUNT,
            (f"sum(last_over_time(job_queue_size{{{SERVICE}}}[2m]))", "jobs"),
            width=12,
        ),
        latency(
            "Duration of such jobs",
            "From the start of a job to its end, the wait before it left out.",
            (
                "histogram_quantile(0.95, sum by (outcome) (rate("
                f"job_duration_seconds{{{SERVICE}}}[$__rate_interval])))",
                "{{outcome}} P95",
            ),
            width=12,
        ),
    ),
)

_BURN = "job:transcript_requests_failed_per_answerable:ratio_rate"
_OBJECTIVE = "scalar(threshold:transcript_availability:objective)"

_OBJECTIVES = Row(
    "Objectives",
    (
        graph(
            "Burn rate",
            "How many times faster than allowed the 30-day error budget is used up. 14.4 over "
            "1 h and 5 min pages, so does 6 over 6 h and 30 min.",
            COUNT,
            *(
                (f"{_BURN}{span}{{{RECORDED}}} / (1 - {_OBJECTIVE})", span)
                for span in ("5m", "30m", "1h", "6h")
            ),
            thresholds={None: "green", 6: "orange", 14.4: "red"},
            width=12,
            must_have=True,
        ),
        stat(
            "Budget left",
            "Share of the error budget of 30 days that is left; below 0 it is overdrawn.",
            RATIO,
            f"job:transcript_availability_budget_remaining:ratio_rate30d{{{RECORDED}}}",
            thresholds={None: "red", 0: "orange", 0.25: "green"},
            width=6,
            height=8,
            decimals=1,
        ),
        stat(
            "Within 30 s",
            "Share of the successful requests of the chosen time that took less than 30 s; the "
            "objective is 95 %.",
            RATIO,
            "histogram_fraction(0, 30, sum(rate(transcript_request_duration_seconds"
            f'{{{SERVICE}, outcome="success"}}[$__range])))',
            thresholds={None: "red", 0.95: "green"},
            width=6,
            height=8,
            decimals=1,
            must_have=True,
        ),
    ),
)

_ALERTS = Row(
    "Alerts",
    (
        table(
            "Active alerts",
            "Pending and firing alerts. A click opens the runbook, at the service's address above.",
            COUNT,
            (
                f"count by (alertname, alertstate, severity, stage, name) (ALERTS{{{ALERTING}}})",
                "series",
            ),
            width=24,
            empty="no alert",
            links=(
                Link("Runbook", "${service_url}/runbooks/${__data.fields.alertname}"),
                Link(
                    "Breakers of this stage",
                    "/d/transcripts-breakers?${service:queryparam}&${environment:queryparam}&${__url_time_range}",
                ),
            ),
        ),
    ),
)

SERVICE_OVERVIEW: Final = Board(
    uid="transcripts-overview",
    title="Service overview",
    description="What users of the transcript service feel, and what is being done about it.",
    rows=(_NOW, _RED, _FALLBACK, _OBJECTIVES, _ALERTS),
)
