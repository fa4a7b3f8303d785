"""The terminal views with hostile text in them, their exit codes, and what programs read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from transcript_service.cli import main
from transcript_service.dashboard import status, traces
from transcript_service.settings import get_settings
from transcript_service.transcripts.model import Segment, Transcript
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.wanted import Wanted

# Ends a style that never began, colours, sets the title, clears the line, 8-bit CSI.
HOSTILE = "[/bold][red]x[/] \x1b[2J\x1b]0;owned\x07 \r\x9b31m\x7f"
LONG = "word " * 100
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"COLUMNS": "40"})


def summary(verdict: str | None) -> dict[str, Any]:
    """What the dashboard answers when only health and alerts are known."""
    checks = [{"name": "engines", "level": "ok", "text": HOSTILE}]
    alert = {
        "state": "firing",
        "alertname": f"Evil{HOSTILE}",
        "severity": "critical",
        "since": "2026-11-28T12:00:00Z",
        "summary": f"{HOSTILE} {LONG}",
        "runbook_url": None,
    }
    nothing = {"status": "unavailable", "data": None, "reason": HOSTILE}
    health = {"verdict": verdict, "checks": checks} if verdict else None
    return {
        "window": {"start": "2026-11-28T11:00:00Z", "end": "2026-11-28T12:00:00Z"},
        "partial": False,
        "stale": False,
        "blocks": {
            **dict.fromkeys(
                ("performance", "circuit_breaker", "browser_contexts", "proxy"), nothing
            ),
            "health": {"status": "ok" if health else "unavailable", "data": health},
            "alerts": {"status": "ok", "data": {"active": [alert]}},
        },
    }


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `status` gets; tests change it."""
    document = summary("healthy")
    board = SimpleNamespace(overview=lambda *_: SimpleNamespace(body=json.dumps(document)))
    monkeypatch.setattr(status, "Board", lambda *_: board)
    return document


@pytest.fixture
def _trace(monkeypatch: pytest.MonkeyPatch) -> None:
    span = {
        "span_id": "1",
        "name": f"GET {HOSTILE}",
        "depth": 0,
        "start_s": 0.0,
        "duration_s": 1.0,
        "error": False,
        "attributes": {"stage": HOSTILE},
    }
    line = {
        "span_id": "1",
        "level": "info",
        "offset_s": 0.1,
        "text": f"said {HOSTILE}",
        "attributes": {"video_id": "dQw4w9WgXcQ", "detail": HOSTILE},
    }
    found = {
        "start": "2026-11-28T12:00:00Z",
        "duration_s": 1.0,
        "spans": {"status": "ok", "data": [span]},
        "logs": {"status": "ok", "data": [line, {**line, "span_id": None}]},
    }
    monkeypatch.setattr(traces, "fetch_trace", lambda *_: found)


def is_plain(text: str) -> bool:
    return all(character.isprintable() or character in "\n" for character in text)


@pytest.mark.parametrize("verdict", ["healthy", "degraded", "unhealthy", "unknown"])
@pytest.mark.usefixtures("answer")
def test_status_shows_foreign_text_as_it_is_and_steers_no_terminal(
    answer: dict[str, Any], verdict: str
) -> None:
    answer.update(summary(verdict))
    done = run("status")
    assert is_plain(done.stdout)
    assert "Evil[/bold][red]x[/] \\x1b[2J" in done.stdout
    assert LONG.strip() in done.stdout  # piped: nothing is cut and no line is wrapped


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("healthy", 0), ("degraded", 0), ("unhealthy", 1), ("unknown", 3), (None, 3)],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_status_ends_with_the_verdict(
    answer: dict[str, Any], verdict: str | None, code: int, options: tuple[str, ...]
) -> None:
    answer.update(summary(verdict))
    assert run("status", *options).exit_code == code


def test_status_as_json_is_the_document(answer: dict[str, Any]) -> None:
    done = run("status", "--json")
    assert json.loads(done.stdout) == answer
    assert is_plain(done.stdout)


@pytest.mark.usefixtures("_trace")
def test_trace_shows_lines_with_their_fields_and_steers_no_terminal() -> None:
    done = run("trace", TRACE)
    assert done.exit_code == 0
    assert is_plain(done.stdout)
    assert done.stdout.count("video_id=dQw4w9WgXcQ") == 2
    assert "said [/bold][red]x[/] \\x1b[2J" in done.stdout


@pytest.mark.usefixtures("_trace")
def test_trace_as_json_holds_spans_and_lines() -> None:
    document = json.loads(run("trace", TRACE, "--json").stdout)
    assert document["spans"]["data"][0]["name"] == f"GET {HOSTILE}"
    assert len(document["logs"]["data"]) == 2


@pytest.mark.parametrize("video", ["dQw4w9WgXcQ", "-w4w9WgXcQ1", "--w9WgXcQ12", "-hw4w9WgXcQ"])
@pytest.mark.parametrize("fmt", ["text", "srt", "vtt", "json"])
def test_fetch_takes_ids_with_dashes_and_passes_no_control_character(
    monkeypatch: pytest.MonkeyPatch, video: str, fmt: str
) -> None:
    def fetch(self: Pipeline, wanted: Wanted, **_: Any) -> Transcript:
        segments = (Segment(0.0, 1.0, f"first {HOSTILE}\nsecond"),)
        return Transcript(wanted.video_id, "timedtext", "en", "manual", segments)

    monkeypatch.setattr(Pipeline, "fetch", fetch)
    done = run("fetch", video, "--format", fmt)
    assert done.exit_code == 0, done.output
    assert is_plain(done.stdout)
    assert "second" in done.stdout


def test_what_is_no_video_and_no_option_is_still_refused() -> None:
    assert run("fetch", "dQw4w9WgXcQ", "--fromat").exit_code == 2


def test_fetch_passes_the_name_of_a_track_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def fetch(_: Pipeline, wanted: Wanted, **__: Any) -> Transcript:
        asked.append(wanted.track)
        return Transcript("dQw4w9WgXcQ", "timedtext", "en", "manual", (Segment(0.0, 1.0, "a"),))

    monkeypatch.setattr(Pipeline, "fetch", fetch)
    assert run("fetch", "dQw4w9WgXcQ", "--track", " Dialogue ").exit_code == 0
    assert run("fetch", "dQw4w9WgXcQ").exit_code == 0
    assert asked == ["Dialogue", None]
    assert run("fetch", "dQw4w9WgXcQ", "--track", "\n").exit_code == 2


def test_a_cookie_file_without_cookies_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cookies.json"
    path.write_text('[{"value": "hidden"}]')
    monkeypatch.setenv("COOKIES_FILE", str(path))
    done = run("fetch", "dQw4w9WgXcQ")
    assert done.exit_code == 2
    assert "COOKIES_FILE: holds no cookie" in done.output
    assert "hidden" not in done.output


def test_tokens_are_listed_for_programs() -> None:
    assert json.loads(run("token", "list", "--json").stdout) == []
    run("token", "create", "ci", "--scope", "metrics:read")
    (token,) = json.loads(run("token", "list", "--json").stdout)
    assert (token["client"], token["scopes"], token["state"], token["last_used"]) == (
        "ci",
        ["metrics:read"],
        "active",
        None,
    )


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_told(option: str) -> None:
    assert run(option).stdout.startswith("transcript-service ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_as_the_page_describes_it(shell: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("transcript-service")],
        env={"PATH": "/usr/bin:/bin", "_TRANSCRIPT_SERVICE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_TRANSCRIPT_SERVICE_COMPLETE" in done.stdout
