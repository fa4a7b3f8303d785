"""The sound of a video: its words spoken by espeak-ng where that is installed, else tones."""

from __future__ import annotations

import asyncio
import io
import math
import re
import shutil
import struct
import subprocess
import wave
from array import array
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from simulator import pages
from simulator.model import Track, Video
from simulator.state import CALL, STATE

RATE = 22_050
"""Samples a second, one channel of 16 bits: what espeak-ng writes, so nothing is resampled."""
BYTES_PER_S = RATE * 2
HEADER_BYTES = 44
MAX_SPOKEN_S = 900
"""Longer videos get tones only: an hour of speech takes a minute to make and 160 MB to keep."""
MIME_TYPE = "audio/wav"
HOST = "rr1---sn-simulated.googlevideo.com"
_WHOLE_BYTES = 16_000_000

_VOICES = {"en": "en-us", "pt-BR": "pt-br", "zh-Hans": "cmn", "fr": "fr-fr"}
_WORDS_PER_MINUTE = 145


def size_bytes(video: Video) -> int:
    """The size of the WAV file of a video, header included."""
    return HEADER_BYTES + video.duration_s * BYTES_PER_S


def adaptive_formats(video: Video, *, expire: int) -> list[dict[str, Any]]:
    """``streamingData.adaptiveFormats``: one audio file; its URL is good until ``expire`` (Unix s)."""
    query = {
        "expire": str(expire),
        "id": f"o-{video.id}",
        "itag": "140",
        "source": "youtube",
        "requiressl": "yes",
        "mime": MIME_TYPE,
        "clen": str(size_bytes(video)),
        "dur": f"{video.duration_s}.000",
        "sig": "simulated",
    }
    return [
        {
            "itag": 140,
            "url": f"https://{HOST}/videoplayback?{urlencode(query)}",
            "mimeType": f'{MIME_TYPE}; codecs="pcm_s16le"',
            "bitrate": BYTES_PER_S * 8,
            "averageBitrate": BYTES_PER_S * 8,
            "lastModified": "1768464000000000",
            "contentLength": str(size_bytes(video)),
            "quality": "tiny",
            "audioQuality": "AUDIO_QUALITY_MEDIUM",
            "approxDurationMs": str(video.duration_s * 1000),
            "audioSampleRate": str(RATE),
            "audioChannels": 1,
        }
    ]


def header(video: Video) -> bytes:
    """The WAV header for the whole file."""
    size = size_bytes(video)
    return (
        b"RIFF"
        + struct.pack("<I", size - 8)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, RATE, BYTES_PER_S, 2, 16)
        + b"data"
        + struct.pack("<I", size - HEADER_BYTES)
    )


def speaks() -> bool:
    """Whether videos are spoken here (espeak-ng is installed)."""
    return shutil.which("espeak-ng") is not None


def read(video: Video, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` (exclusive) of the video's WAV file. May run for seconds."""
    samples = (
        speech(video) if speaks() and video.spoken and video.duration_s <= MAX_SPOKEN_S else None
    )
    head = header(video)[start:end]
    first, last = max(start - HEADER_BYTES, 0), max(end - HEADER_BYTES, 0)
    return head + (samples[first:last] if samples is not None else _tones(first, last))


@lru_cache(maxsize=4)
def speech(video: Video) -> bytes:
    """The samples of a video: every spoken line starts at its time, or when the last one ends."""
    track = video.spoken or Track("en", "English", "manual", ())
    sound = bytearray(video.duration_s * BYTES_PER_S)
    free = 0
    for cue in track.cues:
        if cue.blank:
            continue
        at = max(cue.start_ms * RATE // 1000 * 2, free)
        said = _say(cue.text, track)[: max(len(sound) - at, 0)]
        sound[at : at + len(said)] = said
        free = at + len(said)
    return bytes(sound)


def _say(text: str, track: Track) -> bytes:
    """One line as samples at :data:`RATE`; empty where espeak-ng has no voice for it."""
    voice = _VOICES.get(track.lang, track.lang)
    command = ["espeak-ng", "-v", voice, "-s", str(_WORDS_PER_MINUTE), "--stdin", "--stdout"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0 or len(done.stdout) <= HEADER_BYTES:
        return b""
    # espeak-ng cannot seek in a pipe, so the sizes in its header are wrong; the rest is not.
    with wave.open(io.BytesIO(done.stdout)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            return b""
    return done.stdout[HEADER_BYTES:]


@lru_cache(maxsize=16)
def _tone_second(number: int) -> bytes:
    """One second: three syllables of a falling tone with overtones, then a pause."""
    samples = array("h", bytes(BYTES_PER_S))
    base_hz = 110 * 2 ** (number % 8 / 12)
    syllable = RATE // 4
    for i in range(3 * syllable):
        within = i % syllable / syllable
        swell = math.sin(math.pi * within) ** 2
        phase = 2 * math.pi * base_hz * (1 - within / 12) * i / RATE
        voice = math.sin(phase) + 0.5 * math.sin(2 * phase) + 0.3 * math.sin(5 * phase)
        samples[i] = int(6000 * swell * voice)
    return samples.tobytes()


def _tones(first: int, last: int) -> bytes:
    out = bytearray()
    at = first
    while at < last:
        second, offset = divmod(at, BYTES_PER_S)
        piece = _tone_second(second % 8)[offset : offset + last - at]
        out += piece
        at += len(piece)
    return bytes(out)


async def videoplayback(request: web.Request) -> web.StreamResponse:
    """The audio file, whole or a range (``Range`` header or YouTube's ``range=`` parameter)."""
    state, call = request.app[STATE], request[CALL]
    video = state.video(call.video)
    expire = request.query.get("expire", "")
    if (
        video is None
        or not expire.isdigit()
        or int(expire) <= state.clock()
        or "sig" not in request.query
    ):
        return web.Response(
            status=403, text=pages.error("403. Forbidden."), content_type="text/html"
        )
    size = size_bytes(video)
    asked = request.headers.get("Range", "").removeprefix("bytes=") or request.query.get(
        "range", ""
    )
    match = re.fullmatch(r"(\d+)-(\d*)", asked)
    start = int(match[1]) if match else 0
    end = min(int(match[2]) + 1 if match and match[2] else size, size)
    headers = {"Content-Type": MIME_TYPE, "Accept-Ranges": "bytes"}
    if start >= end:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    partial = "Range" in request.headers and match is not None
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if partial else 200
    if end - start <= _WHOLE_BYTES:
        body = await asyncio.to_thread(read, video, start, end)
        return web.Response(body=body, status=status, headers=headers)
    # A three-hour file is half a gigabyte: made and sent piece by piece.
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = end - start
    await response.prepare(request)
    for at in range(start, end, BYTES_PER_S * 8):
        await response.write(
            await asyncio.to_thread(read, video, at, min(at + BYTES_PER_S * 8, end))
        )
    await response.write_eof()
    return response
