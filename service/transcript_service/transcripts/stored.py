"""A transcript as bytes, for the cache and the job store, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from .model import Segment, Track, Transcript


def dump(transcript: Transcript) -> bytes:
    """Everything that stays true later: no signed URLs, no account of this one request."""
    tracks = tuple(replace(track, url="") for track in transcript.available)
    return orjson.dumps(replace(transcript, available=tracks, attempts=(), cached=False))


def load(body: bytes) -> Transcript:
    """What `dump` wrote.

    Raises:
        ValueError: it was not written by this version.
    """
    try:
        fields: dict[str, Any] = orjson.loads(body)
        fields["segments"] = tuple(Segment(**item) for item in fields["segments"])
        fields["available"] = tuple(Track(**item) for item in fields["available"])
        fields["attempts"] = ()
        return Transcript(**fields)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError("a stored transcript of another version") from error
