"""The closed lists of words that a metric's attribute, an error's `code` and a log field share."""

from __future__ import annotations

from typing import Final, Literal, get_args

Stage = Literal["youtube_api", "timedtext", "youtubei", "asr"]
Source = Literal["youtube_api", "timedtext", "youtubei", "asr", "cache"]
Outcome = Literal["success", "no_captions", "blocked", "timeout", "error", "skipped"]
Profile = Literal["desktop", "mobile"]
BreakerState = Literal["closed", "open", "half_open", "disabled", "forced_open", "metrics_only"]

# Why there is no transcript: each word once, in the group that says what it means.
# What a caller did wrong; never counted against the service.
CallerError = Literal["invalid_video_id", "invalid_parameter"]
# What YouTube says about the video itself: it is not there, or not for everybody.
# fmt: off
Missing = Literal[
    "video_unavailable", "video_removed_by_uploader", "video_removed_by_youtube",
    "video_removed_copyright", "account_closed", "video_upcoming", "live_stream",
    "transcripts_disabled", "language_unavailable",
]
Closed = Literal[
    "video_private", "members_only", "payment_required", "age_restricted", "country_blocked",
    "video_unplayable",
]
# What YouTube says about us: come back later, or bring something that we have not got.
Refused = Literal["request_blocked", "ip_blocked", "rate_limited", "translation_refused"]
Gated = Literal["consent_required", "po_token_required"]
# Answers that are none.
Unusable = Literal[
    "client_outdated", "playability_unknown", "wrong_video", "empty_body", "html_body",
    "parse_error", "http_4xx", "http_5xx", "proxy_error", "connection_error",
]
# fmt: on
Late = Literal["timeout", "deadline_exceeded"]
# What this service has too little of at the moment.
Busy = Literal["breaker_open", "browser_unavailable", "asr_unavailable", "overloaded"]
ErrorType = Literal[CallerError, Missing, Closed, Refused, Gated, Unusable, Late, Busy, "internal"]

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
SOURCES: Final[tuple[Source, ...]] = get_args(Source)
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)
BREAKER_STATES: Final[tuple[BreakerState, ...]] = get_args(BreakerState)
ERROR_TYPES: Final[tuple[ErrorType, ...]] = get_args(ErrorType)

# No later stage, retry or proxy changes these, so they end a job, are ignored by the breakers
# and stay out of the availability SLI.
ANSWERS: Final[frozenset[ErrorType]] = frozenset(get_args(Missing) + get_args(Closed))
CALLER_ERRORS: Final[frozenset[ErrorType]] = frozenset(get_args(CallerError))
# "Blocked" and "no captions" are kept apart here and nowhere else.
_OUTCOMES: Final[dict[ErrorType, Outcome]] = {
    **dict.fromkeys(ANSWERS, "no_captions"),
    **dict.fromkeys(get_args(Refused) + get_args(Gated), "blocked"),
    **dict.fromkeys(get_args(Late), "timeout"),
    "breaker_open": "skipped",
}


def outcome_of(error_type: ErrorType | None) -> Outcome:
    """The outcome that an error type belongs to (`success` for `None`)."""
    return _OUTCOMES.get(error_type, "error") if error_type else "success"
