"""One stack that the integration tests share: starting it takes longer than most of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.live import FAST_TELEMETRY, LiveStack, layout


@pytest.fixture(scope="session")
def live() -> Iterator[LiveStack]:
    """A running stack with two workers and the simulator, from an empty state folder."""
    place = layout("shared", offset=15000)
    # The Collector's debug output is one of the places that are searched for secrets.
    stack = LiveStack(
        place, {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2", "OTELCOL_LOG_LEVEL": "debug"}
    )
    stack.down()
    shutil.rmtree(place.state_dir, ignore_errors=True)
    stack.up()
    yield stack
    stack.down()
