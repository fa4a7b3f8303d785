"""From a player's answer to a transcript: the part that the two stages without a browser share."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from ...settings import Settings
from ...telemetry.vocabulary import Stage
from ..captions import Format, parse_captions
from ..http import classify_status
from ..model import Segment, Track, Transcript, TranscriptError
from ..player import another_video, read_player
from .base import Job, track_for, translation_for

# json3 first: exact milliseconds and no escaping; the others in case it is refused.
_FORMATS: Final[tuple[Format, ...]] = ("json3", "srv1", "srv3")


def fetch_captions(
    session: requests.Session, job: Job, answer: bytes, settings: Settings, source: Stage
) -> Transcript:
    """The transcript that a player's answer leads to.

    Args:
        session: asks for the caption file.
        job: what is wanted.
        answer: the body of the player's answer.
        settings: the default languages.
        source: the stage that asks.

    Raises:
        TranscriptError: why there is none.
        requests.RequestException: the exchange failed.
    """
    player = read_player(answer, job.video_id)
    tracks = player.captions()
    track = track_for(job, tracks, settings)
    translate_to = translation_for(job, track, player)
    if track.po_token_required:
        raise TranscriptError(
            "po_token_required", "YouTube wants a proof-of-origin token for this track."
        )
    if parse_qs(urlsplit(track.url).query).get("v", [job.video_id]) != [job.video_id]:
        raise another_video()
    return Transcript(
        video_id=job.video_id,
        source=source,
        language=translate_to or track.language,
        translated_from=track.language if translate_to else None,
        kind=track.kind,
        track=track.name,
        segments=tuple(_segments(session, track, translate_to)),
        available=tracks,
    )


def _segments(session: requests.Session, track: Track, translate_to: str | None) -> list[Segment]:
    problem: TranscriptError | None = None
    for fmt in _FORMATS:
        response = session.get(caption_url(track.url, fmt, translate_to))
        if error := classify_status(response):
            if translate_to and response.status_code in (403, 429):
                # YouTube counts translations apart; whoever wants the original gets it.
                raise TranscriptError(
                    "translation_refused",
                    "YouTube translates no captions for this address for now.",
                    retry_after_s=error.retry_after_s,
                )
            raise error
        try:
            return parse_captions(response.content, fmt)
        except TranscriptError as error:
            if error.error_type not in ("parse_error", "empty_body"):
                raise
            problem = problem or error
    assert problem is not None  # noqa: S101 - there is at least one format
    raise problem


def caption_url(url: str, fmt: Format, translate_to: str | None = None) -> str:
    """The URL of a track in one format; `xosf` is left out because it damages positions."""
    parts = urlsplit(url)
    query = [
        (key, value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
        if key not in ("fmt", "xosf", "tlang")
    ]
    query.append(("fmt", fmt))
    if translate_to:
        query.append(("tlang", translate_to))
    return urlunsplit(parts._replace(query=urlencode(query)))
