"""Stage 2: the ANDROID player's caption URL, asked directly.

Two requests and no watch page, so it works where the page is a consent wall, a captcha or
too slow. Caption URLs of the WEB page are of no use here: they carry `exp=xpe` and answer
with an empty body unless a proof-of-origin token is sent; the ANDROID player's do not.
"""

from __future__ import annotations

import requests

from ...settings import Settings
from ...telemetry.vocabulary import Stage as StageName
from ..http import YouTubeSession, classify
from ..innertube import ask_player
from ..model import Transcript
from .base import Job
from .caption_file import fetch_captions


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
                answer = ask_player(session, job.video_id)
                return fetch_captions(session, job, answer, self._settings, self.name)
            except requests.RequestException as error:
                raise classify(error) from None
