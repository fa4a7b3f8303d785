"""The simulator's certificate authority lasts over restarts, and a broken one is replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trustme

from simulator.certificates import serving_context


def test_a_restart_keeps_the_authority(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    serving_context(ca_file)
    first = ca_file.read_bytes()
    serving_context(ca_file)
    assert ca_file.read_bytes() == first
    key = ca_file.with_suffix(".key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    trustme.CA.from_pem(first, key.read_bytes())


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN NONSENSE-----"])
def test_an_authority_that_is_not_whole_is_made_anew(
    tmp_path: Path, lost: str, content: bytes | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    serving_context(ca_file)
    first = ca_file.read_bytes()
    if content is None:
        (tmp_path / lost).unlink()
    else:
        (tmp_path / lost).write_bytes(content)
    serving_context(ca_file)
    assert ca_file.read_bytes() != first
    trustme.CA.from_pem(ca_file.read_bytes(), ca_file.with_suffix(".key").read_bytes())
