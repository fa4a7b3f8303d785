"""What goes wrong at YouTube, at a proxy or at a speech server, and what each stage makes of it.

One line is one real answer met by one stage: the error type that is reported (its outcome
follows from `outcome_of`), how many tries it takes and how the breaker books it. `failed`
counts against the stage, `ignored` is an answer about the video, `not_permitted` was not tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from transcript_service.telemetry.vocabulary import STAGES, ErrorType, Stage

Booking = Literal["failed", "ignored", "not_permitted"]


@dataclass(frozen=True, slots=True)
class Row:
    """A fault at a stage and all that follows from it.

    `fault` is in the simulator's notation, empty for none. `video` is the title of the
    simulated video, `proxy` the fault of the only way out, `speech` what the speech
    endpoint answers, `before` how many jobs met the same just before.
    """

    stage: Stage
    fault: str
    error_type: ErrorType
    tries: int
    booking: Booking
    video: str = ""
    proxy: str = ""
    speech: tuple[int, bytes] | None = None
    before: int = 0
    deadline_s: float = 120.0
    translate: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        what = [self.fault or "no fault", self.video, self.proxy and f"proxy {self.proxy}"]
        return "-".join([self.stage, *filter(None, what), self.error_type])


# A video with its usual panel per stage; the speech stage gets the shortest.
USUAL: Mapping[Stage, str] = {
    "youtube_api": "The Seven O'Clock Train",
    "timedtext": "The Seven O'Clock Train",
    "youtubei": "Bread for a Village",
    "asr": "One Sentence",
}
_GONE = "Removed by Its Maker"
_PRIVATE = "Private Diary"
_ADULT = "For Grown-ups Only"
_SILENT = "Captions Switched Off"
_GERMAN = "Brot für das Dorf"
# What the player says about a video, by the simulator's name.
_ANSWERS: Mapping[str, ErrorType] = {
    "removed_by_uploader": "video_removed_by_uploader",
    "removed_by_youtube": "video_removed_by_youtube",
    "removed_copyright": "video_removed_copyright",
    "account_closed": "account_closed",
    "members_only": "members_only",
    "payment_required": "payment_required",
    "region_blocked": "country_blocked",
    "upcoming": "video_upcoming",
    "live_over": "live_stream",
    "not_on_this_device": "video_unplayable",
}
# What it says about us in the same place.
_REFUSALS: Mapping[str, ErrorType] = {
    "captcha_in_player": "request_blocked",
    "rate_limited": "rate_limited",
    "client_outdated": "client_outdated",
    "unknown_reason": "playability_unknown",
    "other_video": "wrong_video",
}

# All stages read what the player says with one function, and other stages' rows have each of these
# as well. A browser takes seconds for it: there `make test` has some of each kind.
QUICK_IN_A_BROWSER = (
    "removed_by_uploader", "region_blocked", "live_over", "rate_limited", "other_video",
)  # fmt: skip
SLOW_IN_A_BROWSER = {*_ANSWERS, *_REFUSALS} - {*QUICK_IN_A_BROWSER}

FAULTS: tuple[Row, ...] = (
    *(Row(s, fault, said, 1, "ignored") for s in STAGES for fault, said in _ANSWERS.items()),
    *(Row(s, fault, said, 1, "failed") for s in STAGES for fault, said in _REFUSALS.items()),
    Row("youtube_api", "no_translations", "translation_refused", 1, "ignored", translate="de"),
    Row("timedtext", "no_translations", "translation_refused", 1, "ignored", translate="de"),
    # The library: watch page, player, captions.
    Row("youtube_api", "http_403@watch", "http_4xx", 1, "failed"),
    Row("youtube_api", "http_404@player", "http_4xx", 1, "failed"),
    Row("youtube_api", "http_429@watch:60", "ip_blocked", 1, "failed"),
    Row("youtube_api", "http_429@timedtext:1", "ip_blocked", 2, "failed"),
    Row("youtube_api", "http_500@player", "http_5xx", 2, "failed"),
    Row("youtube_api", "http_503@timedtext:1", "http_5xx", 2, "failed"),
    Row("youtube_api", "empty_body@watch", "empty_body", 2, "failed"),
    Row("youtube_api", "empty_body@player", "empty_body", 2, "failed"),
    Row("youtube_api", "empty_body@timedtext", "empty_body", 2, "failed"),
    Row("youtube_api", "tiny_body@timedtext", "parse_error", 2, "failed"),
    Row("youtube_api", "html_body@player", "html_body", 1, "failed"),
    Row("youtube_api", "html_body@timedtext", "html_body", 1, "failed"),
    Row("youtube_api", "truncated_json@player", "parse_error", 2, "failed"),
    Row("youtube_api", "truncated_json@timedtext", "parse_error", 2, "failed"),
    Row("youtube_api", "wrong_format@timedtext", "parse_error", 2, "failed"),
    Row("youtube_api", "xml_entities@timedtext", "parse_error", 2, "failed"),
    Row("youtube_api", "consent_forever", "consent_required", 1, "failed"),
    Row("youtube_api", "bot_check", "request_blocked", 1, "failed"),
    Row("youtube_api", "recaptcha", "ip_blocked", 1, "failed"),
    Row("youtube_api", "no_api_key", "html_body", 1, "failed"),
    Row("youtube_api", "po_token", "po_token_required", 1, "failed"),
    Row("youtube_api", "po_token_xpv", "po_token_required", 1, "failed"),
    Row("youtube_api", "expired_signature", "http_4xx", 1, "failed"),
    Row("youtube_api", "reset@timedtext", "connection_error", 2, "failed"),
    Row("youtube_api", "hang@player", "timeout", 2, "failed"),
    Row("youtube_api", "slow_body@watch:10", "deadline_exceeded", 1, "failed", deadline_s=1.5),
    Row("youtube_api", "", "proxy_error", 1, "failed", proxy="http_502"),
    Row("youtube_api", "", "proxy_error", 1, "failed", proxy="http_407"),
    Row("youtube_api", "", "proxy_error", 1, "failed", proxy="tunnel_reset"),
    Row("youtube_api", "", "video_unavailable", 1, "ignored", video=_GONE),
    Row("youtube_api", "", "video_private", 1, "ignored", video=_PRIVATE),
    Row("youtube_api", "", "age_restricted", 1, "ignored", video=_ADULT),
    Row("youtube_api", "", "transcripts_disabled", 1, "ignored", video=_SILENT),
    Row("youtube_api", "", "language_unavailable", 1, "ignored", video=_GERMAN),
    Row("youtube_api", "", "internal", 1, "failed", settings={"youtube_ca_file": "/no/such/ca"}),
    # The ANDROID player and its caption URL: no watch page, so nothing of what befalls that.
    Row("timedtext", "http_403@timedtext", "http_4xx", 1, "failed"),
    Row("timedtext", "http_429@player:60", "ip_blocked", 1, "failed"),
    Row("timedtext", "http_502@player", "http_5xx", 2, "failed"),
    Row("timedtext", "http_502@player", "breaker_open", 0, "not_permitted", before=1),
    Row("timedtext", "empty_body@player", "empty_body", 2, "failed"),
    Row("timedtext", "empty_body@timedtext", "empty_body", 2, "failed"),
    Row("timedtext", "html_body@player", "html_body", 1, "failed"),
    Row("timedtext", "html_body@timedtext", "html_body", 1, "failed"),
    Row("timedtext", "truncated_json@timedtext", "parse_error", 2, "failed"),
    Row("timedtext", "bot_check", "request_blocked", 1, "failed"),
    Row("timedtext", "po_token", "po_token_required", 1, "failed"),
    Row("timedtext", "po_token_xpv", "po_token_required", 1, "failed"),
    Row("timedtext", "expired_signature", "http_4xx", 1, "failed"),
    Row("timedtext", "reset@player", "connection_error", 2, "failed"),
    Row("timedtext", "hang@timedtext", "timeout", 2, "failed"),
    Row("timedtext", "slow_body@player:10", "deadline_exceeded", 1, "failed", deadline_s=1.5),
    Row("timedtext", "", "proxy_error", 1, "failed", proxy="http_403"),
    Row("timedtext", "", "video_unavailable", 1, "ignored", video=_GONE),
    Row("timedtext", "", "video_private", 1, "ignored", video=_PRIVATE),
    Row("timedtext", "", "age_restricted", 1, "ignored", video=_ADULT),
    Row("timedtext", "", "transcripts_disabled", 1, "ignored", video=_SILENT),
    Row("timedtext", "", "language_unavailable", 1, "ignored", video=_GERMAN),
    # The browser: its tries are desktop and mobile page, so a stage's try is always one.
    Row("youtubei", "bot_check", "request_blocked", 1, "failed"),
    Row("youtubei", "recaptcha", "ip_blocked", 1, "failed"),
    Row("youtubei", "http_429@watch", "ip_blocked", 1, "failed"),
    Row("youtubei", "http_503@watch", "http_5xx", 1, "failed"),
    Row("youtubei", "http_400@get_transcript", "http_4xx", 1, "failed"),
    Row("youtubei", "consent_forever", "consent_required", 1, "failed"),
    Row("youtubei", "other_video@get_transcript", "wrong_video", 1, "failed"),
    Row("youtubei", "empty_body@watch", "empty_body", 1, "failed"),
    Row("youtubei", "html_body@watch", "html_body", 1, "failed"),
    Row("youtubei", "truncated_json@get_transcript", "parse_error", 1, "failed"),
    Row("youtubei", "reset@watch", "timeout", 1, "failed"),  # half a page, and no more comes
    Row("youtubei", "endless_script", "timeout", 1, "failed"),
    Row("youtubei", "", "proxy_error", 1, "failed", proxy="http_502"),
    Row("youtubei", "", "video_unavailable", 1, "ignored", video=_GONE),
    Row("youtubei", "", "video_private", 1, "ignored", video=_PRIVATE),
    Row("youtubei", "", "age_restricted", 1, "ignored", video=_ADULT),
    Row("youtubei", "", "transcripts_disabled", 1, "ignored", video=_SILENT),
    Row("youtubei", "", "language_unavailable", 1, "ignored", video=_GERMAN),
    Row("youtubei", "", "browser_unavailable", 1, "failed",
        settings={"browser_executable": "/no/such/browser"}),
    # The sound and who listens to it; minutes of work, so never tried twice.
    Row("asr", "http_403@audio", "http_4xx", 1, "failed"),
    Row("asr", "http_429@player", "ip_blocked", 1, "failed"),
    Row("asr", "http_500@audio", "http_5xx", 1, "failed"),
    Row("asr", "empty_body@audio", "empty_body", 1, "failed"),
    Row("asr", "tiny_body@audio", "parse_error", 1, "failed"),
    Row("asr", "html_body@player", "html_body", 1, "failed"),
    Row("asr", "truncated_json@player", "parse_error", 1, "failed"),
    Row("asr", "bot_check", "request_blocked", 1, "failed"),
    Row("asr", "reset@player", "connection_error", 1, "failed"),
    Row("asr", "hang@player", "timeout", 1, "failed"),
    Row("asr", "", "proxy_error", 1, "failed", proxy="http_502"),
    Row("asr", "", "asr_unavailable", 1, "failed", speech=(500, b"oops")),
    Row("asr", "", "asr_unavailable", 1, "failed", speech=(200, b"<html>")),
    Row("asr", "", "asr_unavailable", 1, "failed",
        speech=(200, b'{"segments": [{"text": "no times"}]}')),
    Row("asr", "", "transcripts_disabled", 1, "ignored", speech=(200, b'{"segments": []}')),
    Row("asr", "", "video_unavailable", 1, "ignored", video=_GONE),
    Row("asr", "", "video_private", 1, "ignored", video=_PRIVATE),
    Row("asr", "", "age_restricted", 1, "ignored", video=_ADULT),
)  # fmt: skip

# Met by one stage and got around by another, or by the same one in another way.
SURVIVED: tuple[tuple[Stage, str, str], ...] = (
    ("youtube_api", "consent", ""),
    ("youtube_api", "no_start@timedtext", ""),  # of XML, and json3 is asked for first
    ("youtube_api", "consent_inline", ""),
    ("youtube_api", "wrong_type@timedtext", ""),
    ("youtube_api", "slow_headers:1", ""),
    ("youtube_api", "slow_body@timedtext:1", ""),
    ("timedtext", "consent_forever", ""),
    ("timedtext", "recaptcha", ""),
    ("timedtext", "hang@watch", ""),
    ("timedtext", "wrong_type@timedtext", ""),
    ("youtubei", "consent", "Counting Stars"),
    ("youtubei", "consent_dialog", "Counting Stars"),
    ("youtubei", "unknown_shape", ""),
    ("youtubei", "po_token", "Counting Stars"),
    ("youtubei", "http_500@timedtext", ""),
    ("asr", "http_500@timedtext", ""),
    ("asr", "recaptcha", ""),
)

# Refusals of whoever asks, wherever they may strike.
REFUSALS = (
    *_REFUSALS, "http_403", "http_429", "bot_check", "recaptcha", "consent_forever", "po_token",
    "po_token_xpv", "expired_signature",
)  # fmt: skip
# Of those, in `make test` at all stages after each other; alone each stage meets all of them.
QUICK_REFUSALS = ("rate_limited", "http_403", "recaptcha", "consent_forever", "po_token")
