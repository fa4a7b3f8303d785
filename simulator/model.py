"""What a video is to the simulator: tracks of cues, chapters, a playability, a page layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TrackKind = Literal["manual", "asr"]
PanelLayout = Literal["classic", "modern", "tabbed", "none"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of the transcript a client is expected to deliver. Times are in seconds."""

    start: float
    duration: float
    text: str


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption event as YouTube stores it. Times are in milliseconds.

    ``text`` is what a viewer reads; it may hold newlines, and a blank cue holds
    nothing else. ``html`` is the same line with formatting tags, which only the
    XML of format srv1 shows.
    """

    start_ms: int
    duration_ms: int
    text: str
    html: str | None = None

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms

    @property
    def blank(self) -> bool:
        return not self.text.strip()


@dataclass(frozen=True, slots=True)
class Track:
    """One caption track of a video."""

    lang: str
    name: str
    kind: TrackKind
    cues: tuple[Cue, ...]
    variant: str = ""
    """What tells it from other tracks of its language: "Dialogue"."""

    def segments(self) -> list[Segment]:
        """The expected transcript: every cue that has text, times in seconds."""
        return [
            Segment(cue.start_ms / 1000, cue.duration_ms / 1000, cue.text)
            for cue in self.cues
            if not cue.blank
        ]


@dataclass(frozen=True, slots=True)
class Chapter:
    start_ms: int
    title: str


@dataclass(frozen=True, slots=True)
class Playability:
    """YouTube's verdict on a video; ``reason`` is the text that clients match on."""

    status: str = "OK"
    reason: str = ""
    subreason: str = ""
    screen: str = "playerErrorMessageRenderer"
    """The kind of screen that is shown in place of the video."""

    @property
    def ok(self) -> bool:
        return self.status == "OK"


OK = Playability()
BOT_CHECK = Playability(
    "LOGIN_REQUIRED", "Sign in to confirm you’re not a bot", "This helps protect our community. "
)
AGE_RESTRICTED = Playability("LOGIN_REQUIRED", "This video may be inappropriate for some users.")
UNAVAILABLE = Playability("ERROR", "This video is unavailable")
PRIVATE = Playability(
    "LOGIN_REQUIRED",
    "This video is private",
    "Sign in if you’ve been granted access to this video",
)
REGION_BLOCKED = Playability(
    "UNPLAYABLE",
    "The uploader has not made this video available in your country",
    "It may be watched elsewhere.",
)
LIVE_SOON = Playability("LIVE_STREAM_OFFLINE", "This live event will begin in 2 hours.")
REFUSALS: dict[str, Playability] = {
    "bot_check": BOT_CHECK,
    "captcha_in_player": Playability(
        "ERROR", "This video is unavailable", screen="playerCaptchaViewModel"
    ),
    "rate_limited": Playability("UNPLAYABLE", "This content isn’t available, try again later."),
    "client_outdated": Playability(
        "ERROR", "This video is unavailable", "Watch on the latest version of YouTube."
    ),
    "unknown_reason": Playability("UNPLAYABLE", "Video unavailable", "A reason of next year."),
    "removed_by_uploader": Playability(
        "ERROR", "Video unavailable", "This video has been removed by the uploader"
    ),
    "removed_by_youtube": Playability(
        "ERROR",
        "Video unavailable",
        "This video has been removed for violating YouTube's Terms of Service",
    ),
    "removed_copyright": Playability(
        "ERROR",
        "Video unavailable",
        "This video is no longer available due to a copyright claim by Somebody",
    ),
    "account_closed": Playability(
        "ERROR",
        "Video unavailable",
        "This video is no longer available because the YouTube account associated with this "
        "video has been terminated.",
    ),
    "members_only": Playability(
        "UNPLAYABLE", "Join this channel to get access to members-only content like this video."
    ),
    "payment_required": Playability("UNPLAYABLE", "This video requires payment to watch."),
    "region_blocked": REGION_BLOCKED,
    "upcoming": LIVE_SOON,
    "live_over": Playability("LIVE_STREAM_OFFLINE", "This live event has ended."),
    "not_on_this_device": Playability(
        "UNPLAYABLE", "Video unavailable", "This video is not available on this device"
    ),
}
"""What the player can say of every video, by the name of the fault that makes it say so."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video the simulator knows. ``duration_s`` is in whole seconds, as YouTube states it."""

    id: str
    title: str
    author: str
    duration_s: int
    tracks: tuple[Track, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    panel: PanelLayout = "modern"
    playability: Playability = OK
    live: bool = False
    spoken: Track | None = None
    """What is said in the video's sound; a video may speak and have no captions."""
    fault: str | None = None
    """The fault this video always shows, in the notation of :mod:`simulator.faults`."""
    recording: str | None = None
    """The file of the recordings folder this video was made from."""

    def track(self, lang: str, kind: TrackKind, variant: str = "") -> Track | None:
        """The first track of exactly this language and kind, and of this variant if told."""
        for track in self.tracks:
            if (track.lang, track.kind) == (lang, kind) and variant in ("", track.variant):
                return track
        return None

    def default_track(self) -> Track | None:
        """The track YouTube shows first: English if there is one, manual before automatic."""
        ranked = sorted(
            self.tracks, key=lambda t: (not t.lang.startswith("en"), t.kind != "manual")
        )
        return ranked[0] if ranked else None

    def chapter_of(self, at_ms: int) -> Chapter | None:
        """The chapter that contains this moment."""
        found = [chapter for chapter in self.chapters if chapter.start_ms <= at_ms]
        return found[-1] if found else None
