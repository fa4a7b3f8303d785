"""One stack that the integration tests share: starting it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live import FAST_TELEMETRY, LiveStack, running_stack


@pytest.fixture(scope="session")
def live() -> Iterator[LiveStack]:
    """A running stack with two workers and the simulator; its users are in the group `live`."""
    # The Collector's debug output is one of the places that are searched for secrets.
    environ = {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2", "OTELCOL_LOG_LEVEL": "debug"}
    with running_stack("shared", environ) as stack:
        yield stack
