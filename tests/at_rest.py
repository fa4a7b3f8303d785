"""What VictoriaLogs and Jaeger have written to disk, unpacked, so that it can be searched.

Both pack blocks of records: a search of the files as they lie would find nothing, secret or not.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import zstandard

_ZSTD = b"\x28\xb5\x2f\xfd"
# Of a badger table: what of it is at the end (index and checksum) is no packed block.
_LEAST_BLOCK = 16


def data_of(path: Path) -> bytes:
    """What was written to a file, without its holes: badger makes files of 2 GB for a start.

    Nothing for a file that a running store has removed meanwhile.
    """
    parts = []
    with suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    break
                raise
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            parts.append(os.pread(file.fileno(), at - begin, begin))
    return b"".join(parts)


def unpacked_zstd(data: bytes) -> Iterator[bytes]:
    """Every zstd frame inside some bytes, unpacked; VictoriaLogs' columns are full of them."""
    at = data.find(_ZSTD)
    while at >= 0:
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        with suppress(zstandard.ZstdError):  # four bytes that only look like one
            yield unpacker.decompress(data[at:])
        used = len(data) - at - len(unpacker.unused_data) if unpacker.eof else 1
        at = data.find(_ZSTD, at + max(1, used))


class NotSnappy(ValueError):
    """The bytes are not of Snappy's block format."""


def unpack_snappy(data: bytes, at: int = 0) -> tuple[bytes, int]:
    """One Snappy block that begins at `at`, unpacked, and where it ends.

    https://github.com/google/snappy/blob/main/format_description.txt

    Raises:
        NotSnappy: it is none.
    """
    try:
        size, at = _varint(data, at)
        out = bytearray()
        while len(out) < size:
            tag = data[at]
            at += 1
            kind = tag & 3
            if kind == 0:
                length = tag >> 2
                if length >= 60:
                    extra = length - 59
                    length = int.from_bytes(data[at : at + extra], "little")
                    at += extra
                length += 1
                out += data[at : at + length]
                at += length
                continue
            if kind == 1:
                length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
                at += 1
            else:
                width = 2 if kind == 2 else 4
                length, offset = (tag >> 2) + 1, int.from_bytes(data[at : at + width], "little")
                at += width
            if not 0 < offset <= len(out):
                raise NotSnappy(f"a copy from {offset} back after {len(out)} bytes")
            for _ in range(length):  # a copy may reach into what it writes
                out.append(out[-offset])
    except IndexError:
        raise NotSnappy("it ends too early") from None
    if len(out) != size or at > len(data):
        raise NotSnappy("not as long as it says")
    return bytes(out), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 35:
            raise NotSnappy("no length")


def badger_blocks(table: bytes) -> Iterator[bytes]:
    """The blocks of a badger table (`.sst`), which lie one after the other from its start."""
    at = 0
    while at < len(table):
        try:
            block, at = unpack_snappy(table, at)
        except NotSnappy:
            return  # the index behind the last block
        if len(block) >= _LEAST_BLOCK:
            yield block


def texts(folder: Path) -> Iterator[str]:
    """Everything below a store's folder: each file as it lies, and unpacked where it is packed."""
    # Not rglob: it raises when a running store removes a folder meanwhile.
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    for path in sorted(found):
        data = data_of(path)
        yield data.decode("latin-1")
        blocks = badger_blocks(data) if path.suffix == ".sst" else unpacked_zstd(data)
        yield from (block.decode("latin-1") for block in blocks)
