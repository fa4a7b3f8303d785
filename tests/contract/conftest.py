"""What several contracts need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard_fakes import FakeEngine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One small server in the place of every engine; a test says how it behaves."""
    engine = FakeEngine()
    yield engine
    engine.close()
