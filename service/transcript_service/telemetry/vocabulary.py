"""The closed lists of words that telemetry, API and logs share.

They stand below everything else so that a metric's attribute, an error body's `code`
and a log field can never drift apart.
"""

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
Missing = Literal[
    "video_unavailable",
    "video_removed_by_uploader",
    "video_removed_by_youtube",
    "video_removed_copyright",
    "account_closed",
    "video_upcoming",
    "live_stream",
    "transcripts_disabled",
    "language_unavailable",
]
Closed = Literal[
    "video_private",
    "members_only",
    "payment_required",
    "age_restricted",
    "country_blocked",
    "video_unplayable",
]
# What YouTube says about us: come back later, or bring something that we have not got.
Refused = Literal["request_blocked", "ip_blocked", "rate_limited", "translation_refused"]
Gated = Literal["consent_required", "po_token_required"]
# Answers that are none.
Unusable = Literal[
    "client_outdated",
    "playability_unknown",
    "wrong_video",
    "empty_body",
    "html_body",
    "parse_error",
    "http_4xx",
    "http_5xx",
    "proxy_error",
    "connection_error",
]
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
_BLOCKED: Final[frozenset[ErrorType]] = frozenset(get_args(Refused) + get_args(Gated))


def outcome_of(error_type: ErrorType | None) -> Outcome:
    """The outcome that an error type belongs to (`success` for `None`).

    "Blocked" and "no captions" are kept apart here and nowhere else.
    """
    if error_type is None:
        return "success"
    if error_type in ANSWERS:
        return "no_captions"
    if error_type in _BLOCKED:
        return "blocked"
    if error_type in get_args(Late):
        return "timeout"
    if error_type == "breaker_open":
        return "skipped"
    return "error"
