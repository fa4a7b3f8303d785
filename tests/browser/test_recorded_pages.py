"""Recorded pages of YouTube in the real browser: named for what they are, like over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator.testing import RunningSimulator, running_simulator
from tests.contract.test_recordings import EXPECTED, FOLDER, PAGES, served_as
from transcript_service.browser import BrowserPool, PoolConfig
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.stages import youtubei
from transcript_service.transcripts.stages.base import Job
from transcript_service.transcripts.stages.youtubei import YoutubeiStage

REFUSALS = [name for name in PAGES if EXPECTED[name]["must_classify_as"] != "ok"]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("sim"), recordings_folder=FOLDER) as running:
        yield running


@pytest.fixture(scope="module")
def settings(simulator: RunningSimulator) -> Settings:
    return Settings(youtube_resolve_to=simulator.resolve_to, youtube_ca_file=simulator.ca_file)


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[BrowserPool]:
    made = BrowserPool(PoolConfig.from_settings(settings))
    yield made
    made.close(grace_s=0)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_recorded_page_that_refuses_is_named_for_it(
    simulator: RunningSimulator,
    settings: Settings,
    pool: BrowserPool,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(youtubei, "get_browser_pool", lambda: pool)
    video = served_as(simulator, name)
    job = Job(video, (), Deadline(120), JobProxy(ProxyPool([]), "test", None))
    with pytest.raises(TranscriptError) as failure:
        YoutubeiStage(settings).fetch(job)
    assert failure.value.error_type == EXPECTED[name]["must_classify_as"]
    assert {entry["endpoint"] for entry in simulator.requests(video=video)} == {"watch"}
