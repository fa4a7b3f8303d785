"""Decodes sound from standard input to samples on standard output, within its limits.

Foreign bytes meet a large C library here, so this is a program of its own: it may use so
much memory and time and no more, and reads only the containers that YouTube uses. FFmpeg
left to guess also reads lists of other files (ffconcat, HLS), sessions to join (SDP) and
some three hundred formats more. Imports nothing of the service.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from typing import Any

import av

# How each begins, and FFmpeg's name for it. None of these refers to anything outside itself.
_CONTAINERS = (
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (4, b"ftyp", "mp4"),
    (0, b"OggS", "ogg"),
    (0, b"fLaC", "flac"),
)


def container_of(body: bytes) -> str | None:
    """FFmpeg's name for a sound's container, `None` for what is not read."""
    for at, magic, name in _CONTAINERS:
        if body[at : at + len(magic)] == magic:
            return name
    return None


def main() -> int:
    """Decode; the arguments are the sample rate and the limits as JSON."""
    rate, limits = int(sys.argv[1]), json.loads(sys.argv[2])
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))
    body = sys.stdin.buffer.read()
    container = container_of(body)
    if container is None:
        return 1
    # No protocol may be opened by what the file says, were there one that asked for it.
    options = {"protocol_whitelist": "none", "format_whitelist": container}
    with av.open(io.BytesIO(body), "r", format=container, options=options) as sound:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        for frame in sound.decode(audio=0):
            _write(resampler.resample(frame))
        _write(resampler.resample(None))
    return 0


def _write(pieces: list[Any]) -> None:
    for piece in pieces:
        # A plane is padded; only the samples count.
        sys.stdout.buffer.write(bytes(piece.planes[0])[: piece.samples * 2])


if __name__ == "__main__":
    sys.exit(main())
