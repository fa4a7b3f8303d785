"""`transcript-service status` and `trace` as a person runs them, against running engines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import LiveStack, wait_for
from tests.ports import free_port


def command(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, with nothing set but what is given."""
    return subprocess.run(
        [Path(sys.executable).with_name("transcript-service"), *arguments],
        env={"PATH": os.environ["PATH"], "COLUMNS": "160", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def engines(live: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the running engines are."""
    return {
        "PROMETHEUS_URL": live.layout.engine("prometheus"),
        "ALERTMANAGER_URL": live.layout.engine("alertmanager"),
        "JAEGER_URL": live.layout.engine("jaeger"),
        "VICTORIALOGS_URL": live.layout.engine("victorialogs"),
        "STATE_DIR": str(tmp_path_factory.mktemp("state")),
    }


@pytest.fixture
def nothing(tmp_path: Path) -> dict[str, str]:
    """Engines of which none runs."""
    away = f"http://127.0.0.1:{free_port()}"
    names = ("PROMETHEUS_URL", "ALERTMANAGER_URL", "JAEGER_URL", "VICTORIALOGS_URL")
    return {**dict.fromkeys(names, away), "STATE_DIR": str(tmp_path)}


@pytest.fixture(scope="module")
def trace_id(live: LiveStack) -> str:
    """The trace of a request that succeeded, complete in Jaeger and VictoriaLogs."""
    videos = live.simulator("GET", "videos")["videos"]
    video = next(v["id"] for v in videos if v["tracks"] and not v["default_fault"])
    answer = live.get(f"/api/transcripts/{video}")
    assert answer.status_code == 200
    found = str(answer.json()["trace_id"])
    wait_for("its spans", lambda: len(live.spans(found)) >= 3)
    lines = f'{{"service.name"="tldw-transcript-service"}} trace_id:="{found}"'
    wait_for("its lines", lambda: len(live.log_lines(lines)) >= 2)
    return found


def test_status_tells_the_summary(live: LiveStack, engines: dict[str, str], trace_id: str) -> None:
    wait_for("a request in Prometheus", lambda: live.number("sum(transcript_requests_total)"))

    parts = ("youtube_api", "telemetry", "Requests and stages", "Circuit breakers", "Proxies",
             "Alerts")  # fmt: skip

    def told() -> subprocess.CompletedProcess[str] | None:
        # Engines that other tests held up a moment ago may leave out a block at first.
        done = command(engines, "status", "--hours", "0.25")
        return done if all(part in done.stdout for part in parts) else None

    done = wait_for(f"all of {parts}", told)
    assert (done.returncode, done.stderr) == (0, "")


def test_trace_tells_spans_in_order_with_their_lines(
    engines: dict[str, str], trace_id: str
) -> None:
    done = command(engines, "trace", trace_id.upper())
    assert (done.returncode, done.stderr) == (0, "")
    order = [
        done.stdout.index(name) for name in ("GET /api", "transcript.fetch", "transcript.stage")
    ]
    assert order == sorted(order)
    assert "transcript.request.finished" in done.stdout


@pytest.mark.parametrize("arguments", [("status",), ("trace", "0" * 31 + "1")])
def test_without_engines_it_is_one_line_and_a_failure(
    nothing: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = command(nothing, *arguments)
    assert (done.returncode, done.stdout) == (3 if "status" in arguments else 1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("transcript-service: ")
    assert "cannot be reached" in line or "does not answer" in line


def test_an_unknown_trace_is_one_line_and_a_failure(engines: dict[str, str]) -> None:
    done = command(engines, "trace", "0" * 31 + "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--hours", "0"),
        ("status", "--hours", "169"),
        ("status", "--hours", "nan"),
        ("status", "--hours", "a day"),
        ("trace", "no-trace-id"),
        ("trace", "g" * 32),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    nothing: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = command(nothing, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("transcript-service: ")


def test_a_setting_that_cannot_be_is_exit_code_2(nothing: dict[str, str]) -> None:
    done = command({**nothing, "PROMETHEUS_URL": "no url"}, "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert "PROMETHEUS_URL" in done.stderr
