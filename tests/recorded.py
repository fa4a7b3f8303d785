"""YouTube's recorded answers as fixtures: a module assigns those that it uses to their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.testing import RunningSimulator, running_simulator
from tests.needed import require_chromium
from transcript_service.browser import BrowserPool
from transcript_service.settings import Settings
from transcript_service.transcripts.stages import youtubei


def simulator_serving(folder: Path) -> Callable[..., Any]:
    """A simulator that answers with what is in a folder."""

    @pytest.fixture(scope="module", name="simulator")
    def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
        with running_simulator(tmp_path_factory.mktemp("sim"), recordings_folder=folder) as running:
            yield running

    return simulator


@pytest.fixture(scope="module")
def settings(simulator: RunningSimulator) -> Settings:
    """Those of a service for which that simulator is YouTube."""
    return Settings(
        youtube_resolve_to=simulator.resolve_to,
        youtube_ca_file=simulator.ca_file,
        browser_acquire_timeout_s=60,  # a busy machine starts Chromium in more than fifteen
    )


@pytest.fixture(scope="module")
def browser(settings: Settings) -> Iterator[None]:
    """A browser pool that the stage uses."""
    require_chromium(None)
    pool = BrowserPool(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(youtubei, "get_browser_pool", lambda: pool)
        yield
    pool.close(grace_s=0)
