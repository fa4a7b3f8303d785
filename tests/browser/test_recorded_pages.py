"""Recorded pages of YouTube in the real browser: named for what they are, like over HTTP."""

from __future__ import annotations

import pytest

from simulator.testing import RunningSimulator
from tests import recorded
from tests.contract.test_recordings import EXPECTED, FOLDER, PAGES, served_as
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.stages.base import Job
from transcript_service.transcripts.stages.youtubei import YoutubeiStage
from transcript_service.transcripts.wanted import Wanted

REFUSALS = [name for name in PAGES if EXPECTED[name]["must_classify_as"] != "ok"]


simulator = recorded.simulator_serving(FOLDER)
settings = recorded.settings
browser = recorded.browser


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("name", REFUSALS)
def test_a_recorded_page_that_refuses_is_named_for_it(
    simulator: RunningSimulator, settings: Settings, name: str
) -> None:
    video = served_as(simulator, name)
    job = Job(Wanted(video), Deadline(120), JobProxy(ProxyPool([]), "test", None))
    with pytest.raises(TranscriptError) as failure:
        YoutubeiStage(settings).fetch(job)
    assert failure.value.error_type == EXPECTED[name]["must_classify_as"]
    assert {entry["endpoint"] for entry in simulator.requests(video=video)} == {"watch"}
