"""Stage 2: the ANDROID player's caption URL, asked directly.

Two requests and no watch page, so it works where the page is a consent wall, a captcha or
too slow. Caption URLs of the WEB page are of no use here: they carry `exp=xpe` and answer
with an empty body unless a proof-of-origin token is sent; the ANDROID player's do not.
"""

from __future__ import annotations

from ...telemetry.vocabulary import Stage as StageName
from ..http import YouTubeSession
from ..player import ask_player
from .caption_file import CaptionFileStage


class TimedtextStage(CaptionFileStage):
    """Transcripts from `/api/timedtext`."""

    name: StageName = "timedtext"

    def player_answer(self, session: YouTubeSession, video_id: str) -> bytes:
        """See `CaptionFileStage.player_answer`."""
        return ask_player(session, video_id)
