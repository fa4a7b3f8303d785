"""Foreign sound is decoded as what YouTube has, in a process with limits, or not at all."""

from __future__ import annotations

import io
import socket
import wave
from array import array
from collections.abc import Iterator
from math import pi, sin
from pathlib import Path
from typing import Any

import av
import pytest

from transcript_service.resilience import Deadline, DeadlineExceeded
from transcript_service.transcripts import audio
from transcript_service.transcripts.audio import SAMPLE_RATE, decode, encode
from transcript_service.transcripts.model import TranscriptError

TONE = array("h", (int(8000 * sin(2 * pi * 440 * n / SAMPLE_RATE)) for n in range(SAMPLE_RATE)))


def sound(container: str, codec: str, pcm: bytes = TONE.tobytes()) -> bytes:
    """The same tone in a container."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as made:
        stream: Any = made.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.sample_rate = SAMPLE_RATE
        frame.planes[0].update(pcm)
        wanted = stream.codec_context
        resampler = av.AudioResampler(
            format=wanted.format.name,
            layout="mono",
            rate=wanted.sample_rate,
            frame_size=wanted.frame_size or 1024,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            made.mux(stream.encode(piece))
        made.mux(stream.encode(None))
    return target.getvalue()


def wav() -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(SAMPLE_RATE)
        made.writeframes(TONE.tobytes())
    return target.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"),
    [("webm", "libopus"), ("mp4", "aac"), ("ogg", "libopus"), ("flac", "flac")],
)
def test_what_youtube_has_is_decoded(container: str, codec: str) -> None:
    samples = b"".join(decode(sound(container, codec), Deadline(60)))
    assert len(samples) / 2 == pytest.approx(SAMPLE_RATE, rel=0.1)
    assert max(array("h", samples)) > 4000


def test_what_is_sent_to_speech_servers_can_be_decoded() -> None:
    assert len(b"".join(decode(encode(TONE.tobytes(), "ogg"), Deadline(60)))) > SAMPLE_RATE
    with wave.open(io.BytesIO(encode(TONE.tobytes(), "wav"))) as plain:
        assert (plain.getframerate(), plain.getnchannels()) == (SAMPLE_RATE, 1)
        assert plain.readframes(len(TONE)) == TONE.tobytes()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody inside our network who must not be asked."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(0.2)
        yield made


def test_lists_and_sessions_open_no_file_and_no_socket(
    tmp_path: Path, listener: socket.socket
) -> None:
    secret = tmp_path / "secret.flac"
    secret.write_bytes(sound("flac", "flac"))
    port = listener.getsockname()[1]
    attacks = [
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=audio {port} RTP/AVP 0\n",
        f'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>',
        "",
    ]
    for body in [*(attack.encode() for attack in attacks), wav(), b"\x00" * 1000]:
        with pytest.raises(TranscriptError) as refusal:
            list(decode(body, Deadline(60)))
        assert refusal.value.error_type == "parse_error"
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_damaged_sound_is_a_parse_error() -> None:
    whole = sound("flac", "flac")
    with pytest.raises(TranscriptError):
        list(decode(whole[:20] + b"\xff" * 400, Deadline(60)))


@pytest.mark.parametrize(
    "limits",
    [{"RLIMIT_DATA": 20_000_000}, {"RLIMIT_CPU": 2}],
    ids=str,
)
def test_the_decoder_has_no_more_memory_and_time_than_it_is_given(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    silence = sound("flac", "flac", bytes(SAMPLE_RATE * 2 * 60))
    # Eleven hours of it are 1.3 GB of samples.
    body = silence if "RLIMIT_DATA" in limits else _repeated(silence, 700)
    monkeypatch.setattr(audio, "_DECODER_LIMITS", limits)
    with pytest.raises(TranscriptError) as refusal:
        for _ in decode(body, Deadline(120)):
            pass
    assert refusal.value.error_type == "parse_error"


def _repeated(minute: bytes, times: int) -> bytes:
    """The frames of a minute of FLAC, again and again."""
    frames = minute.index(b"\xff\xf8")
    return minute[:frames] + minute[frames:] * times


def test_a_sound_without_end_is_left_and_its_decoder_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_MOST_SECONDS", 1)
    with pytest.raises(TranscriptError, match="does not end"):
        list(decode(sound("flac", "flac", TONE.tobytes() * 5), Deadline(60)))


def test_the_deadline_ends_it() -> None:
    with pytest.raises(DeadlineExceeded):
        list(decode(sound("flac", "flac", TONE.tobytes() * 600), Deadline(0.05)))
