"""Stage 2: the ANDROID player's caption URL, asked directly.

Two requests and no watch page, so it works where the page is a consent wall, a captcha or
too slow. Caption URLs of the WEB page are of no use here: they carry `exp=xpe` and answer
with an empty body unless a proof-of-origin token is sent; the ANDROID player's do not.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from ...settings import Settings
from ...telemetry.vocabulary import Stage as StageName
from ..captions import Format, parse_captions
from ..http import YouTubeSession, classify, classify_status
from ..innertube import ask_player
from ..model import Segment, Track, Transcript, TranscriptError
from ..player import read_player
from .base import Job, track_for, translation_for

# json3 first: exact milliseconds and no escaping; the others in case it is refused.
_FORMATS: Final[tuple[Format, ...]] = ("json3", "srv1", "srv3")


class TimedtextStage:
    """Transcripts from `/api/timedtext`."""

    name: StageName = "timedtext"
    attempts = 2
    translates = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def fetch(self, job: Job) -> Transcript:
        """See `Stage.fetch`."""
        job.notes.proxy_used = job.proxy.used
        with YouTubeSession(self._settings, job.deadline, job.proxy.identity) as session:
            try:
                player = ask_player(session, job.video_id)
                tracks = read_player(player)
                track = track_for(job, tracks, self._settings)
                translate_to = translation_for(job, track, tracks, player)
                segments = _captions(session, track, translate_to)
            except requests.RequestException as error:
                raise classify(error) from None
        return Transcript(
            video_id=job.video_id,
            source="timedtext",
            language=translate_to or track.language,
            translated_from=track.language if translate_to else None,
            kind=track.kind,
            segments=tuple(segments),
            available=tuple(tracks),
        )


def _captions(session: requests.Session, track: Track, translate_to: str | None) -> list[Segment]:
    if track.po_token_required:
        raise TranscriptError(
            "po_token_required", "YouTube wants a proof-of-origin token for this track."
        )
    problem: TranscriptError | None = None
    for fmt in _FORMATS:
        response = session.get(caption_url(track.url, fmt, translate_to))
        if error := classify_status(response):
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
