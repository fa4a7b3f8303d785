"""Fixtures every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from transcript_service.telemetry.testing import InMemoryTelemetry


@pytest.fixture
def telemetry() -> Iterator[InMemoryTelemetry]:
    """Spans, metrics and log lines of this test, kept in memory."""
    with InMemoryTelemetry() as memory:
        yield memory
