"""Getting transcripts: stages, parsers and the pipeline that runs them."""

from __future__ import annotations

from collections.abc import Callable

from ..proxies import proxy_pool
from ..resilience import breakers
from ..settings import Settings
from ..telemetry.vocabulary import PROFILES
from .cache import transcript_cache
from .cookies import jar_for
from .pipeline import Pipeline
from .stages.asr import AsrStage
from .stages.base import TranscriptStage
from .stages.timedtext import TimedtextStage
from .stages.youtube_api import YouTubeApiStage
from .stages.youtubei import YoutubeiStage


def create_pipeline(settings: Settings) -> Pipeline:
    """The pipeline of this process with the stages that are switched on, cheapest first.

    Raises:
        SettingsError: a cookie file, a proxy or a breaker's setting cannot be used.
    """
    for profile in PROFILES:
        jar_for(settings, profile)  # told at the start, not by each job
    makers: tuple[tuple[bool, Callable[[Settings], TranscriptStage]], ...] = (
        (settings.enable_youtube_api, YouTubeApiStage),
        (settings.enable_timedtext, TimedtextStage),
        (settings.enable_youtubei, YoutubeiStage),
        (settings.enable_asr, AsrStage),
    )
    stages = [make(settings) for enabled, make in makers if enabled]
    cache = transcript_cache(settings) if settings.enable_transcript_cache else None
    return Pipeline(settings, stages, breakers(settings), proxy_pool(settings), cache)
