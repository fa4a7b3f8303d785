"""What the service writes is nobody else's, whatever the umask is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.test_alerts_log import OPEN, receive
from transcript_service.alerts import AlertLog
from transcript_service.settings import Settings
from transcript_service.tokens import SCOPES, TokenStore
from transcript_service.transcripts.job_store import JobStore
from transcript_service.transcripts.wanted import Wanted
from transcript_service.web import create_app


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
def test_state_is_closed_to_other_users(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    JobStore(settings).submit(Wanted("dQw4w9WgXcQ"))
    receive(AlertLog(settings), OPEN)
    TokenStore(settings.tokens_path).create("a", SCOPES, timedelta(days=1))
    client = create_app(settings).test_client()
    client.get("/health/ready")
    client.get("/api/jobs/x")
    made = [settings.state_dir, *settings.state_dir.rglob("*")]
    assert {path.name for path in made} >= {"jobs.sqlite3", "alerts.sqlite", "tokens.json"}
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.usefixtures("_open_umask")
def test_a_file_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite3"
    file.touch(0o666)
    JobStore(Settings(state_dir=tmp_path))
    assert file.stat().st_mode & 0o077 == 0
