"""The sound of a video is a proper FLAC file of which any range can be had."""

from __future__ import annotations

from random import Random

import pytest

from simulator import audio, flac, voices
from simulator.catalogue import by_title
from simulator.model import Video
from tests.needed import needed


@pytest.fixture
def silent_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a speech program."""
    monkeypatch.setattr(audio, "speaker_for", lambda lang: None)


def crc16(data: bytes) -> int:
    """CRC-16 of FLAC bit by bit (polynomial x^16 + x^15 + x^2 + 1, RFC 9639 section 9.3)."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def frames(data: bytes, count: int) -> list[bytes]:
    """Cut the file behind the samples that each frame is known to hold."""
    found, at = [], 42
    for number in range(count):
        length = 8 + len(chr(number).encode()) + flac.BLOCK * 2
        found.append(data[at : at + length])
        at += length
    assert at == len(data)
    return found


def test_the_file_says_what_it_is_and_every_frame_checks_out(silent_machine: None) -> None:
    video = by_title("One Sentence")
    rate = audio.rate_of(video)
    data = audio.read(video, 0, audio.size_bytes(video))
    assert data[:8] == b"fLaC\x80\x00\x00\x22"
    packed = int.from_bytes(data[18:26])
    samples = packed & (1 << 36) - 1
    assert (packed >> 44, packed >> 41 & 7, (packed >> 36 & 31) + 1) == (rate, 0, 16)
    assert 0 <= samples - video.duration_s * rate < flac.BLOCK
    for frame in frames(data, samples // flac.BLOCK):
        assert frame[:2] == b"\xff\xf8"
        assert crc16(frame[:-2]) == int.from_bytes(frame[-2:])


def test_any_range_is_the_same_bytes_as_in_the_whole(silent_machine: None) -> None:
    video = by_title("Counting Stars")
    size = audio.size_bytes(video)
    whole = audio.read(video, 0, size)
    assert len(whole) == size
    dice = Random(5)
    for _ in range(30):
        start = dice.randrange(size)
        end = min(start + dice.randrange(1, 40_000), size)
        assert audio.read(video, start, end) == whole[start:end]
    assert audio.read(video, size - 1, size + 100) == whole[-1:]


def test_the_end_of_three_hours_costs_no_more_than_the_beginning(silent_machine: None) -> None:
    long = by_title("The Three Hour Walk")
    size = audio.size_bytes(long)
    assert size > 300_000_000
    assert len(audio.read(long, size - 5000, size)) == 5000


def test_lines_are_spoken_at_their_times() -> None:
    if voices.speaker_for("en") is None:
        needed("flite")
    video = by_title("One Sentence")
    speaker = audio.speaker_of(video)
    assert speaker is not None
    assert video.spoken is not None
    samples = audio.speech(video)
    start = video.spoken.cues[0].start_ms * speaker.rate // 1000 * 2
    assert not any(samples[:start])
    assert len(samples) == video.duration_s * speaker.rate * 2
    assert any(samples[start : start + speaker.rate * 2])


def test_a_long_or_speechless_video_has_tones() -> None:
    assert audio.speaker_of(by_title("The Three Hour Walk")) is None
    assert audio.speaker_of(Video("x", "", "", 5)) is None


@pytest.mark.parametrize("program", ["flite", "espeak-ng"])
def test_a_speech_program_that_is_missing_or_not_as_expected_says_nothing(program: str) -> None:
    no_program_speaks_at = 1
    assert voices.Speaker(program, "slt", no_program_speaks_at).say("hello") == b""
