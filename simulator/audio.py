"""The sound of a video: its words, where a speech program is installed, else tones."""

from __future__ import annotations

import asyncio
import math
import re
from array import array
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from simulator import flac, pages
from simulator.model import Video
from simulator.state import CALL, STATE
from simulator.voices import Speaker, speaker_for

MAX_SPOKEN_S = 900
"""Longer videos get tones only: an hour of speech takes a minute to make and 160 MB to keep."""
MIME_TYPE = "audio/flac"
HOST = "rr1---sn-simulated.googlevideo.com"
_TONE_RATE = 16_000
_WHOLE_BYTES = 16_000_000
_PIECE_BYTES = 1_000_000


def speaker_of(video: Video) -> Speaker | None:
    """Who speaks in this video; None where it has tones."""
    if video.spoken is None or video.duration_s > MAX_SPOKEN_S:
        return None
    return speaker_for(video.spoken.lang)


def rate_of(video: Video) -> int:
    """Samples a second: what the speaker writes, so that nothing is resampled."""
    speaker = speaker_of(video)
    return speaker.rate if speaker else _TONE_RATE


def size_bytes(video: Video) -> int:
    """The size of the audio file of a video."""
    return flac.size_bytes(video.duration_s * rate_of(video))


def adaptive_formats(video: Video, *, expire: int) -> list[dict[str, Any]]:
    """``streamingData.adaptiveFormats``: one audio file, good until ``expire`` (Unix s)."""
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
            "mimeType": f'{MIME_TYPE}; codecs="flac"',
            "bitrate": rate_of(video) * 16,
            "averageBitrate": rate_of(video) * 16,
            "lastModified": "1768464000000000",
            "contentLength": str(size_bytes(video)),
            "quality": "tiny",
            "audioQuality": "AUDIO_QUALITY_MEDIUM",
            "approxDurationMs": str(video.duration_s * 1000),
            "audioSampleRate": str(rate_of(video)),
            "audioChannels": 1,
        }
    ]


def read(video: Video, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` (exclusive) of the video's audio file. May run for seconds."""
    rate = rate_of(video)
    said = speech(video) if speaker_of(video) else None

    def pcm(first: int, last: int) -> bytes:
        return _tones(first * 2, last * 2) if said is None else said[first * 2 : last * 2]

    return flac.read(video.duration_s * rate, rate, pcm, start, end)


@lru_cache(maxsize=4)
def speech(video: Video) -> bytes:
    """The samples of a video: every spoken line starts at its time, or when the last one ends.

    Empty where nobody speaks.
    """
    speaker = speaker_of(video)
    if speaker is None or video.spoken is None:
        return b""
    sound = bytearray(video.duration_s * speaker.rate * 2)
    free = 0
    for cue in video.spoken.cues:
        if cue.blank:
            continue
        at = max(cue.start_ms * speaker.rate // 1000 * 2, free)
        said = speaker.say(cue.text)[: max(len(sound) - at, 0)]
        sound[at : at + len(said)] = said
        free = at + len(said)
    return bytes(sound)


@lru_cache(maxsize=8)
def _tone_second(number: int) -> bytes:
    """One second: three syllables of a falling tone with overtones, then a pause."""
    samples = array("h", bytes(_TONE_RATE * 2))
    base_hz = 110 * 2 ** (number / 12)
    syllable = _TONE_RATE // 4
    for i in range(3 * syllable):
        within = i % syllable / syllable
        swell = math.sin(math.pi * within) ** 2
        phase = 2 * math.pi * base_hz * (1 - within / 12) * i / _TONE_RATE
        voice = math.sin(phase) + 0.5 * math.sin(2 * phase) + 0.3 * math.sin(5 * phase)
        samples[i] = int(6000 * swell * voice)
    return samples.tobytes()


def _tones(first: int, last: int) -> bytes:
    out = bytearray()
    while (at := first + len(out)) < last:
        second, offset = divmod(at, _TONE_RATE * 2)
        out += _tone_second(second % 8)[offset : offset + last - at]
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
    for at in range(start, end, _PIECE_BYTES):
        await response.write(await asyncio.to_thread(read, video, at, min(at + _PIECE_BYTES, end)))
    await response.write_eof()
    return response
