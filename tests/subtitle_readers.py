"""What five public readers make of a subtitle file: cues as (start ms, end ms, text).

srt, webvtt-py and pysubs2 are Python packages; node-webvtt and the W3C's webvtt-parser run in
Node, from the lock in tests/webvtt_node, installed once into .stack.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pysubs2
import pytest
import srt  # type: ignore[import-untyped]
import webvtt
from playwright._impl._driver import compute_driver_executable

Cue = tuple[int, int, str]
Reading = dict[str, list[Cue]]

_SOURCES = Path(__file__).parent / "webvtt_node"
_STATE = Path(__file__).parents[1] / ".stack"


def read_srt(file: str) -> Reading:
    """An SRT file in the three Python readers.

    Raises:
        srt.SRTParseError, webvtt.errors.MalformedFileError: the reader refuses it.
    """
    parsed = list(srt.parse(file))
    return {
        "srt": [(_ms(cue.start), _ms(cue.end), cue.content.strip("\n")) for cue in parsed],
        "pysubs2": _events(file, "srt"),
        "webvtt-py": _captions(webvtt.WebVTT.from_buffer(io.StringIO(file), format="srt"), "srt"),
    }


def read_vtt(file: str) -> Reading:
    """A WebVTT file in webvtt-py, at its strictest, and in pysubs2."""
    return {
        "webvtt-py": _captions(webvtt.WebVTT.from_string(file, strict=True), "vtt"),
        "pysubs2": _events(file, "vtt"),
    }


class NodeReaders:
    """node-webvtt and the W3C's parser in one Node process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, file: str) -> Reading:
        """A WebVTT file in both.

        Raises:
            AssertionError: a reader complains.
        """
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        sink.write(json.dumps(file) + "\n")
        sink.flush()
        answer: dict[str, Any] = json.loads(source.readline())
        assert {name: read["errors"] for name, read in answer.items()} == {
            "w3c": [],
            "nodeWebvtt": [],
        }
        return {
            name: [
                # The one decodes entities, the other does not.
                (round(start * 1000), round(end * 1000), text if name == "w3c" else unescape(text))
                for start, end, text in read["cues"]
            ]
            for name, read in answer.items()
        }


@contextmanager
def node_readers() -> Iterator[NodeReaders]:
    """Both Node readers; skips the test where there is nothing to run or install them."""
    node = shutil.which("node") or compute_driver_executable()[0]
    if not Path(node).exists():
        pytest.skip("no Node: neither on PATH nor Playwright's")
    modules = _installed()
    with subprocess.Popen(
        [node, str(_SOURCES / "read.js"), str(modules)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    ) as process:  # fmt: skip
        try:
            yield NodeReaders(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _installed() -> Path:
    """The folder of the locked packages, filled by the first who asks."""
    lock = (_SOURCES / "package-lock.json").read_bytes()
    home = _STATE / f"webvtt-node-{hashlib.sha256(lock).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (home / ".installed").exists():
            npm = shutil.which("npm")
            if npm is None:
                pytest.skip("no npm to install node-webvtt and webvtt-parser with")
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_SOURCES / name, home / name)
            subprocess.run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=home, check=True, capture_output=True, timeout=300,
            )  # fmt: skip
            (home / ".installed").touch()
    return home / "node_modules"


def _events(file: str, fmt: str) -> list[Cue]:
    events = pysubs2.SSAFile.from_string(file, format_=fmt, keep_html_tags=True)
    return [(e.start, e.end, _decoded(e.text.replace("\\N", "\n"), fmt)) for e in events]


def _captions(file: webvtt.WebVTT, fmt: str) -> list[Cue]:
    return [(_clock(c.start), _clock(c.end), _decoded(c.raw_text, fmt)) for c in file.captions]


def _decoded(text: str, fmt: str) -> str:
    """These readers leave WebVTT's entities to whoever shows the text; SRT has none."""
    return unescape(text) if fmt == "vtt" else text


def _clock(text: str) -> int:
    hours, minutes, seconds = text.replace(",", ".").split(":")
    return round((int(hours) * 60 + int(minutes)) * 60_000 + float(seconds) * 1000)


def _ms(time: timedelta) -> int:
    return round(time / timedelta(milliseconds=1))
