"""Stage 2: the ANDROID player's caption URL, asked directly.

Two requests and no watch page, so it works where the page is a consent wall, a captcha or
too slow. Caption URLs of the WEB page are of no use here: they carry `exp=xpe` and answer
with an empty body unless a proof-of-origin token is sent; the ANDROID player's do not.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from ...telemetry.vocabulary import Stage
from ..captions import Format, parse_captions
from ..http import YouTubeSession
from ..languages import choose_translation
from ..model import Segment, Track, Transcript, TranscriptError
from ..player import another_video, ask_player, read_player
from .base import Job, TranscriptStage

# json3 first: exact milliseconds and no escaping; the others in case it is refused.
_FORMATS: Final[tuple[Format, ...]] = ("json3", "srv1", "srv3")


class TimedtextStage(TranscriptStage):
    """Transcripts from the caption file that a player's answer names."""

    name: Stage = "timedtext"
    attempts = 2
    translates = True

    def player_answer(self, session: YouTubeSession, video_id: str) -> bytes:
        """The body of the player's answer, which is not yet looked at."""
        return ask_player(session, video_id)

    def fetch(self, job: Job) -> Transcript:
        job.notes.proxy_used = job.proxy.used
        with YouTubeSession(self._settings, job.deadline, job.proxy.identity) as session:
            player = read_player(self.player_answer(session, job.video_id), job.video_id)
            tracks = player.captions()
            track = self.track_for(job, tracks)
            translate_to = choose_translation(
                track, job.wanted.translate_to, player.translations, tracks
            )
            if track.po_token_required:
                raise TranscriptError(
                    "po_token_required", "YouTube wants a proof-of-origin token for this track."
                )
            if parse_qs(urlsplit(track.url).query).get("v", [job.video_id]) != [job.video_id]:
                raise another_video()
            return Transcript(
                video_id=job.video_id,
                source=self.name,
                language=translate_to or track.language,
                translated_from=track.language if translate_to else None,
                kind=track.kind,
                track=track.name,
                segments=tuple(_segments(session, track, translate_to)),
                available=tracks,
            )


def _segments(session: YouTubeSession, track: Track, translate_to: str | None) -> list[Segment]:
    problem: TranscriptError | None = None
    for fmt in _FORMATS:
        try:
            return parse_captions(
                session.get(caption_url(track.url, fmt, translate_to)).content, fmt
            )
        except TranscriptError as error:
            if translate_to and error.status in (403, 429):
                # YouTube counts translations apart; whoever wants the original gets it.
                raise TranscriptError(
                    "translation_refused",
                    "YouTube translates no captions for this address for now.",
                    retry_after_s=error.retry_after_s,
                ) from None
            if error.status or error.error_type not in ("parse_error", "empty_body"):
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
