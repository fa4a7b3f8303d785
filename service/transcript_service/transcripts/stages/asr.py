"""Stage 4: the words are heard rather than read.

Slow and costly, hence last, bounded in length, size and number at a time, and the only
stage that works where a video has no captions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from opentelemetry.trace import Span

from ...settings import Settings
from ...telemetry import set_attributes, span
from ...telemetry.vocabulary import Stage
from .. import audio
from ..http import YouTubeSession
from ..languages import same_language
from ..model import NotTried, Segment, Transcript, TranscriptError
from ..player import Player, ask_player, read_player
from ..speech import SpeechEngine, create_engine
from .base import Job, TranscriptStage

_TELL_EVERY_S: Final = 2.0


class AsrStage(TranscriptStage):
    """Transcripts by speech recognition."""

    name: Stage = "asr"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._running = threading.BoundedSemaphore(settings.asr_max_concurrent)
        self._engine: SpeechEngine | None = None
        self._engine_lock = threading.Lock()

    def fetch(self, job: Job) -> Transcript:
        job.notes.proxy_used = job.proxy.used
        engine = self._speech_engine()
        language = _language(engine, job.wanted.languages)
        if not self._running.acquire(blocking=False):
            raise NotTried("asr_unavailable", "Speech recognition is busy.", retry_after_s=30.0)
        try:
            sound = self._sound(job)
            with span("asr.recognise", engine=engine.name, audio_bytes=len(sound)) as opened:
                spoken = engine.recognise(audio.decode(sound, job.deadline), language, job.deadline)
                segments = tuple(_told(spoken.segments, opened))
                set_attributes(opened, segments=len(segments), language=spoken.language)
        finally:
            self._running.release()
        if not segments:
            raise TranscriptError("transcripts_disabled", "No speech was heard in the video.")
        return Transcript(
            video_id=job.video_id,
            source="asr",
            language=spoken.language,
            kind="speech",
            segments=segments,
        )

    def _speech_engine(self) -> SpeechEngine:
        with self._engine_lock:
            if self._engine is None:
                self._engine = create_engine(self._settings)
            return self._engine

    def _sound(self, job: Job) -> bytes:
        with (
            span("asr.audio") as opened,
            YouTubeSession(
                self._settings,
                job.deadline,
                job.proxy.identity,
                max_body_bytes=self._settings.asr_max_audio_mb * 1_000_000,
            ) as session,
        ):
            player = read_player(ask_player(session, job.video_id), job.video_id)
            set_attributes(opened, audio_s=player.duration_s)
            unfit = self._unfit(player)
            if unfit is None:
                sound, way = self._download(job, session, player)
                set_attributes(opened, audio_source=way, audio_bytes=len(sound))
                return sound
        raise NotTried("asr_unavailable", unfit)  # outside the span, which did not fail

    def _unfit(self, player: Player) -> str | None:
        """Why the sound cannot be listened to, `None` where it can."""
        if player.is_live:
            return "The video is live: its sound has no end yet."
        if player.duration_s > self._settings.asr_max_video_minutes * 60:
            return (
                "The video is longer than speech recognition takes "
                f"({self._settings.asr_max_video_minutes} minutes)."
            )
        if player.audio_url is None and "yt_dlp" not in self._settings.asr_audio_sources:
            return "The video lists no sound to fetch."
        return None

    def _download(self, job: Job, session: YouTubeSession, player: Player) -> tuple[bytes, str]:
        """The sound and the way it came.

        Raises:
            TranscriptError: of the first way, where none worked.
        """
        problem: TranscriptError | None = None
        for way in self._settings.asr_audio_sources:
            try:
                if way == "yt_dlp":
                    sound = audio.download_with_yt_dlp(
                        self._settings, job.video_id, job.deadline, job.proxy.identity
                    )
                elif player.audio_url:
                    sound = audio.download(session, player.audio_url)
                else:
                    continue
            except TranscriptError as error:
                problem = problem or error
            else:
                return sound, way
        raise problem or TranscriptError("asr_unavailable", "No way to the sound is switched on.")


def _told(segments: Iterable[Segment], opened: Span) -> Iterator[Segment]:
    """The segments as they come; every few seconds the span says how far they are."""
    told = time.monotonic()
    for segment in segments:
        if time.monotonic() - told >= _TELL_EVERY_S:
            told = time.monotonic()
            done_s = round(segment.start + segment.duration, 1)
            opened.add_event("asr.progress", {"done_s": done_s})
        yield segment


def _language(engine: SpeechEngine, wanted: Sequence[str]) -> str | None:
    """The first wanted language that the engine knows.

    Raises:
        NotTried: it knows none of them.
    """
    if not wanted:
        return None
    if not engine.languages:
        return wanted[0]
    for language in wanted:
        if any(same_language(language, known) for known in engine.languages):
            return language
    raise NotTried(
        "asr_unavailable", f"The speech engine knows only {', '.join(engine.languages)}."
    )
