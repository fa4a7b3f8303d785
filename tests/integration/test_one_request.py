"""One request, followed through every part: header, trace, logs, exemplar, dashboard."""

from __future__ import annotations

import os
import re
import signal
import time

import psutil
import pytest
import requests

from stack.programs import SINGLE
from stack.supervise import orphans
from tests.live import LOOPBACK, LiveStack, wait_for

SERVICE = "tldw-transcript-service"
IN_THE_PANEL = "The Empty Envelope"

# Of the service alone: other tests send to this stack too, and Prometheus forgets a series five
# minutes after its last sample, in the middle of a test.
COUNTED = f'transcript_requests_total{{job="{SERVICE}"}}'
WORKERS = f"count(count by (instance) ({COUNTED}))"


@pytest.fixture(scope="module")
def video(live: LiveStack) -> str:
    """A simulated video with manual English captions and no fault."""
    videos = live.simulator("GET", "videos")["videos"]
    return next(
        str(v["id"])
        for v in videos
        if any(t["lang"] == "en" and t["kind"] == "manual" for t in v["tracks"])
        and not v.get("faults")
    )


def test_every_program_listens_on_its_ports_and_on_loopback_only(live: LiveStack) -> None:
    # Only the third stage has a transcript of it, and opens a browser for that.
    (video,) = (v for v in live.simulator("GET", "videos")["videos"] if v["title"] == IN_THE_PANEL)
    assert live.get(f"/api/transcripts/{video['id']}").json()["source"] == "youtubei"
    running = orphans(live.layout)
    assert any("chrom" in p.info["name"] for p in psutil.process_iter(["name"]) if p.pid in running)
    found = live.listening()
    ports = {port for program in SINGLE.values() for port in program.ports}
    assert {port for _, port in found} == set(map(live.layout.port, ports))
    assert {address for address, _ in found} <= LOOPBACK


def test_a_request_is_found_in_every_backend_by_the_id_it_was_answered_with(
    live: LiveStack, video: str
) -> None:
    answer = live.get(f"/api/transcripts/{video}?lang=en")
    assert answer.status_code == 200
    trace_id = answer.headers["X-Correlation-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id)
    assert answer.json()["trace_id"] == trace_id
    wanted = live.simulator("GET", f"videos/{video}/transcript?lang=en&kind=manual")
    assert [s["text"] for s in answer.json()["segments"]] == [
        s["text"].strip() for s in wanted["segments"]
    ]

    # In Jaeger: the server span, the fetch below it, the stage below that.
    spans = wait_for(
        "the trace in Jaeger", lambda: s if len(s := live.spans(trace_id)) >= 3 else None
    )
    by_name = {span["operationName"]: span for span in spans}
    assert set(by_name) >= {
        "GET /api/transcripts/<path:video>", "transcript.fetch", "transcript.stage",
    }  # fmt: skip
    parents = {s["operationName"]: [r["spanID"] for r in s["references"]] for s in spans}
    assert parents["GET /api/transcripts/<path:video>"] == []
    assert parents["transcript.fetch"] == [by_name["GET /api/transcripts/<path:video>"]["spanID"]]
    assert parents["transcript.stage"] == [by_name["transcript.fetch"]["spanID"]]
    tags = {tag["key"]: tag["value"] for tag in by_name["transcript.stage"]["tags"]}
    assert (tags["stage"], tags["outcome"], tags["video_id"]) == ("youtube_api", "success", video)

    # In VictoriaLogs: its lines by trace id, each naming a span of the trace, each once.
    lines = wait_for(
        "the lines in VictoriaLogs",
        lambda: (
            found
            if len(
                found := live.log_lines(f'{{"service.name"="{SERVICE}"}} trace_id:="{trace_id}"')
            )
            > 1
            else None
        ),
    )
    events = [line["event"] for line in lines]
    assert sorted(events) == sorted(set(events))
    assert {"transcript.stage.finished", "transcript.request.finished"} <= set(events)
    assert {line["span_id"] for line in lines} <= {span["spanID"] for span in spans}

    # On stderr: the same lines with the same ids.
    stderr = (live.layout.log_dir / "service.log").read_text()
    assert sum(trace_id in line for line in stderr.splitlines()) == len(lines)

    # In Prometheus: its id on the latency histogram.
    wait_for(
        "the exemplar in Prometheus",
        lambda: any(
            e["labels"].get("trace_id") == trace_id
            for e in live.exemplars("transcript_request_duration_seconds")
        ),
    )


def test_the_dashboard_gives_the_quantiles_that_promql_gives(live: LiveStack, video: str) -> None:
    for _ in range(20):
        assert live.get(f"/api/transcripts/{video}").status_code == 200

    def both() -> tuple[dict[str, float], dict[str, float]] | None:
        block = live.get("/api/dashboard/metrics/performance?hours=1").json()
        if block["status"] != "ok" or block["data"] is None:
            return None
        stage = next(s for s in block["data"]["stages"] if s["stage"] == "youtube_api")
        if stage["p95_s"] is None:
            return None
        end = block["window"]["end"]
        direct = {}
        for name, q in (("p50_s", 0.5), ("p95_s", 0.95)):
            answer = requests.get(
                live.layout.engine("prometheus", "/api/v1/query"),
                {
                    "query": f"histogram_quantile({q}, sum(increase("
                    f'transcript_stage_duration_seconds{{job="{SERVICE}",stage="youtube_api"}}[1h])))',
                    "time": end,
                },
                timeout=10,
            ).json()["data"]["result"]
            if not answer:
                return None
            direct[name] = float(answer[0]["value"][1])
        return {name: stage[name] for name in direct}, direct

    shown, direct = wait_for("quantiles in both places", both)
    for name, value in direct.items():
        assert shown[name] == pytest.approx(value, rel=0.01)


def test_every_request_is_counted_once_also_across_a_graceful_reload(
    live: LiveStack, video: str
) -> None:
    def counted() -> float:
        return live.number(f"sum({COUNTED})") or 0.0

    def settled() -> float | None:
        before = counted()
        time.sleep(2.5)  # two exports: what is on its way has arrived
        return before if before == counted() else None

    before = wait_for("no export on its way", settled)
    for _ in range(60):
        assert live.get(f"/api/transcripts/{video}").status_code == 200
    wait_for("60 more requests", lambda: counted() == before + 60)

    workers = live.number(WORKERS)
    assert workers is not None
    assert workers >= 2
    os.kill(live.pid("service"), signal.SIGHUP)  # gunicorn's graceful reload
    for _ in range(40):
        assert live.get(f"/api/transcripts/{video}").status_code == 200
    wait_for("40 more requests after the reload", lambda: counted() == before + 100)
    wait_for(
        "the new workers",
        lambda: (live.number(WORKERS) or 0) >= workers + 2,
    )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/transcripts/", "invalid_video_id"),
        ("/api/transcripts/short", "invalid_video_id"),
        ("/api/transcripts/" + "a" * 3000, "invalid_video_id"),
        ("/api/transcripts/" + "a" * 20_000, "request_uri_too_long"),
        ("/api/transcripts/abc$%25def^gh", "invalid_video_id"),
        ("/api/transcripts/..%2f..%2f..%2fetc%2fpasswd", "invalid_video_id"),
        ("/api/transcripts/%2e%2e/%2e%2e/etc/passwd", "invalid_video_id"),
        ("/api/transcripts/https://example.com/watch?v=dQw4w9WgXcQ", "invalid_video_id"),
        ("/api/transcripts/%00%00%00%00%00%00%00%00%00%00%00", "invalid_video_id"),
        ("/api/transcripts/dQw4w9WgXcQ?format=docx", "invalid_parameter"),
        ("/api/transcripts/dQw4w9WgXcQ?format=", "invalid_parameter"),
        ("/api/transcripts/dQw4w9WgXcQ?lang=", "invalid_parameter"),
        ("/api/transcripts/dQw4w9WgXcQ?lang=klingon", "invalid_parameter"),
        ("/api/transcripts/dQw4w9WgXcQ?lang=en&lang=de", "invalid_parameter"),
        ("/api/transcripts/dQw4w9WgXcQ?format=srt&format=vtt", "invalid_parameter"),
        ("/api/transcripts", "invalid_video_id"),
        ("/api/nothing", "not_found"),
    ],
)
def test_nonsense_is_answered_with_a_problem_that_names_its_trace(
    live: LiveStack, path: str, code: str
) -> None:
    # A prepared URL, because requests would tidy up the path tricks.
    request = requests.Request("GET", live.layout.url("service")).prepare()
    request.url = live.layout.url("service", path)
    with requests.Session() as session:
        answer = session.send(request, timeout=30)
    assert 400 <= answer.status_code < 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, answer.status_code)
    assert problem["trace_id"] == answer.headers["X-Correlation-ID"] != "0" * 32


def test_a_wrong_method_says_which_are_right(live: LiveStack) -> None:
    answer = requests.delete(live.layout.url("service", "/api/transcripts/dQw4w9WgXcQ"), timeout=30)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.json()["code"] == "method_not_allowed"
