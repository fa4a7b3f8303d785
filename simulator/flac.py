"""A FLAC file made without an encoder: frames of plain samples, so any byte range can be made.

Players, ffmpeg and yt-dlp know FLAC as an audio codec; yt-dlp does not know the
PCM of a WAV file as one. Format: RFC 9639.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

BLOCK = 4096
"""Samples in a frame; the last frame is filled up with silence."""
_BLOCK_CODE = 12
_RATE_CODES = {8_000: 4, 16_000: 5, 22_050: 6, 24_000: 7, 32_000: 8, 44_100: 9, 48_000: 10}
_VERBATIM = 0x02
_HEAD_BYTES = 42


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for byte in range(256):
        crc = byte << (bits - 8)
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & mask
        table.append(crc)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def size_bytes(samples: int) -> int:
    """The size of a file of so many samples."""
    return _start_of(_frames(samples))


def read(samples: int, rate: int, pcm: Callable[[int, int], bytes], start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` (exclusive) of the file.

    ``pcm(first, last)`` gives those samples as 16-bit little-endian mono; what
    it leaves out at the end is silence. ``rate`` is one of FLAC's usual rates.
    """
    out = bytearray(_head(samples, rate)[start:end])
    frame = _frame_at(max(start, _HEAD_BYTES))
    while frame < _frames(samples) and (at := _start_of(frame)) < end:
        data = _frame(frame, rate, pcm(frame * BLOCK, (frame + 1) * BLOCK))
        out += data[max(start - at, 0) : end - at]
        frame += 1
    return bytes(out)


def _frames(samples: int) -> int:
    return -(-samples // BLOCK)


def _head(samples: int, rate: int) -> bytes:
    total = _frames(samples) * BLOCK
    # STREAMINFO: block sizes, frame sizes unknown, rate, channels - 1, bits - 1, samples, no MD5.
    packed = rate << 44 | 0 << 41 | 15 << 36 | total
    info = BLOCK.to_bytes(2) * 2 + bytes(6) + packed.to_bytes(8) + bytes(16)
    return b"fLaC" + bytes((0x80, 0, 0, len(info))) + info


def _number_bytes(number: int) -> bytes:
    """A frame number, coded as UTF-8 codes a character; a million frames are three days."""
    return chr(number).encode("utf-8", "surrogatepass")


def _start_of(frame: int) -> int:
    """Where a frame begins: each has 8 bytes around its samples, and a number of 1 to 4 bytes."""
    numbers = frame + max(frame - 128, 0) + max(frame - 2048, 0) + max(frame - 65_536, 0)
    return _HEAD_BYTES + frame * (8 + BLOCK * 2) + numbers


def _frame_at(offset: int) -> int:
    """The frame this byte of the file belongs to."""
    frame = (offset - _HEAD_BYTES) // (8 + BLOCK * 2)
    while _start_of(frame) > offset:
        frame -= 1
    return frame


def _frame(number: int, rate: int, pcm: bytes) -> bytes:
    head = bytes((0xFF, 0xF8, _BLOCK_CODE << 4 | _RATE_CODES[rate], 4 << 1)) + _number_bytes(number)
    crc8 = 0
    for byte in head:
        crc8 = _CRC8[crc8 ^ byte]
    samples = array("h", pcm.ljust(BLOCK * 2, b"\0"))
    samples.byteswap()
    data = head + bytes((crc8, _VERBATIM)) + samples.tobytes()
    crc16 = 0
    for byte in data:
        crc16 = (crc16 << 8 & 0xFF00) ^ _CRC16[crc16 >> 8 ^ byte]
    return data + crc16.to_bytes(2)
