"""The made-up videos: one table row each, the same on every machine.

Tests compare a service's answer with :func:`expected_transcript`.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from simulator import model
from simulator.model import Chapter, Cue, PanelLayout, Playability, Segment, Track, TrackKind, Video
from simulator.texts import EMOJI, INTRODUCTIONS, LANGUAGE_NAMES, MARKED_UP, SENTENCES

AUTHOR = "Lantern Street Films"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``tracks`` lists languages; ``en/asr`` is an automatic track."""

    title: str
    tracks: str = "en"
    cues: int = 12
    panel: PanelLayout = "modern"
    chapters: int = 0
    style: str = ""
    playability: Playability = model.OK
    live: bool = False
    fault: str | None = None
    spoken: str = ""
    """Language of the sound where it is not the first track's."""
    step_ms: int = 0
    """Distance of two cues in ms; 0 gives each cue the time it takes to say it."""


# The order counts: a row's position is the film number that its captions announce.
TABLE: tuple[Row, ...] = (
    Row("The Seven O'Clock Train", "en en/asr de fr es", 24),
    Row("Bread for a Village", "en en/asr", 30, panel="classic"),
    Row("Counting Stars", "en/asr", 18),
    Row("Apple Trees", "en de ja ar hi", 12, panel="tabbed", chapters=2),
    Row("Rain at the Window", "en de/asr", 12),
    Row("The Clock Mender", "en en/asr ru", 16, panel="classic", chapters=2),
    Row("Letters in a Library", "en", 36, chapters=4, panel="classic"),
    Row("A Mirror of Ice", "en ko zh-Hans", 12),
    Row("Maps of Nowhere", "en en/asr pt-BR", 20, panel="tabbed"),
    Row("The Bell Rings Twice", "en", 14, panel="classic"),
    Row("Home Along the Beach", "en en/asr", 22),
    Row("Der Morgenzug", "de de/asr en", 18),
    Row("Brot für das Dorf", "de", 12, panel="classic"),
    Row("Le train du matin", "fr fr/asr", 18),
    Row("Les pommiers", "fr en", 12, panel="tabbed"),
    Row("El tren de la mañana", "es es/asr en", 18),
    Row("La barca pequeña", "es", 10, panel="classic"),
    Row("O trem da manhã", "pt-BR pt-BR/asr", 16),
    Row("Утренний поезд", "ru ru/asr", 16),
    Row("Звёзды над деревней", "ru en", 12, panel="classic"),
    Row("قطار الصباح", "ar ar/asr en", 16),
    Row("مرآة من جليد", "ar", 12, panel="classic"),
    Row("רכבת הבוקר", "he en", 16),
    Row("סירה קטנה", "he he/asr", 12, panel="tabbed"),
    Row("朝の列車", "ja ja/asr en", 16),
    Row("氷の鏡", "ja", 12, panel="classic"),
    Row("सुबह की रेलगाड़ी", "hi hi/asr en", 16),
    Row("बर्फ़ का आईना", "hi", 12),
    Row("아침 기차", "ko ko/asr", 14),
    Row("早班火车", "zh-Hans zh-Hans/asr en", 14),
    Row("Everything in Every Language", " ".join(sorted(LANGUAGE_NAMES)), 12, chapters=3),
    Row("🚂 Emoji Express 🌟", "en en/asr", 24, style="emoji"),
    Row("👩‍👩‍👧 Family Tree 🍎", "en ja", 12, style="emoji", panel="classic"),
    Row('Salt & Pepper <Tags> "Quotes"', "en", 21, style="markup"),
    Row("Ampersands & Angles", "en de", 14, style="markup", panel="classic"),
    Row("Gaps and Pauses", "en", 24, style="blanks"),
    Row("Silence Is a Newline", "en/asr en", 18, style="blanks", panel="classic"),
    Row("Everybody Talks at Once", "en", 24, style="overlap"),
    Row("Two Voices", "en fr", 16, style="overlap", panel="classic"),
    Row("One Sentence", "en", 1),
    Row("One Sentence, Heard by a Machine", "en/asr", 1),
    Row("Line Breaks", "en de", 12, style="lines"),
    # 3,600 cues, three seconds apart: three hours.
    Row("The Three Hour Walk", "en en/asr de", 3600, chapters=12, step_ms=3000),
    Row("A Long Evening of Letters", "en", 1200, chapters=8, step_ms=3000, panel="classic"),
    Row("Ten Chapters", "en en/asr", 60, chapters=10),
    Row("No Transcript Button", "en en/asr", 12, panel="none"),
    Row("Captions Switched Off", "", 8, spoken="en"),
    Row("Captions Switched Off, German", "", 8, panel="none", spoken="de"),
    Row("Private Diary", "en", 8, playability=model.PRIVATE),
    Row("Removed by Its Maker", "en", 8, playability=model.UNAVAILABLE),
    Row("For Grown-ups Only", "en", 8, playability=model.AGE_RESTRICTED),
    Row("Not in Your Country", "en", 8, playability=model.REGION_BLOCKED),
    Row("Premiere Tonight", "", 0, playability=model.LIVE_SOON),
    Row("Live from the Market", "", 0, live=True),
    Row("Are You a Robot", "en", 8, fault="bot_check"),
    Row("Prove You Are Human", "en", 8, fault="recaptcha"),
    Row("Before You Continue", "en en/asr", 12, fault="consent"),
    Row("Token Please", "en en/asr", 12, fault="po_token"),
    Row("Too Many Visitors", "en", 8, fault="http_429"),
    Row("The Empty Envelope", "en", 8, fault="empty_body@timedtext"),
    Row("The Slow Postman", "en", 8, fault="slow_body@timedtext:3"),
    Row("The Silent Server", "en", 8, fault="hang@timedtext"),
)


def video_id(name: str) -> str:
    """An id of YouTube's real shape: 64 bits as 11 characters of URL-safe base64."""
    return urlsafe_b64encode(hashlib.sha256(name.encode()).digest()[:8]).decode().rstrip("=")


def _lines(row: Row, number: int, lang: str) -> Iterator[tuple[str, str | None]]:
    """The texts of a track, each with its HTML form where that differs."""
    sentences = SENTENCES[lang]
    yield INTRODUCTIONS[lang].format(n=number), None
    for i in range(row.cues - 1):
        text = sentences[(i + number) % len(sentences)]
        if row.style == "markup":
            yield MARKED_UP[i % len(MARKED_UP)] if lang == "en" else (text, None)
        elif row.style == "emoji":
            yield f"{EMOJI[(i + number) % len(EMOJI)]} {text}", None
        elif row.style == "blanks" and i % 4 == 2:
            yield ("\n", " ", "")[i // 4 % 3], None
        elif row.style == "lines" and " " in text:
            words = text.split(" ")
            half = len(words) // 2
            yield " ".join(words[:half]) + "\n" + " ".join(words[half:]), None
        else:
            yield text, None


def _speaking_time_ms(text: str) -> int:
    # About 140 words a minute, and for scripts without spaces four characters a second.
    words = max(len(text.split()), len(text) / 9)
    return 500 + int(words * 420)


def _manual_cues(row: Row, number: int, lang: str) -> tuple[Cue, ...]:
    jitter = Random(f"{row.title}|{lang}")
    cues: list[Cue] = []
    at_ms = 400
    for text, html in _lines(row, number, lang):
        spoken_ms = _speaking_time_ms(text)
        step_ms = row.step_ms or spoken_ms + jitter.randrange(80, 900, 7)
        duration_ms = min(spoken_ms, step_ms - 40) if row.style != "overlap" else step_ms * 2
        cues.append(Cue(at_ms, duration_ms, text, html))
        at_ms += step_ms
    return tuple(cues)


def _automatic_cues(manual: tuple[Cue, ...]) -> tuple[Cue, ...]:
    """What a recogniser makes of it: no case, no punctuation, lines stay until the next ends."""
    spoken = [cue for cue in manual if not cue.blank]
    cues: list[Cue] = []
    for i, cue in enumerate(spoken):
        text = "".join(c for c in cue.text.lower() if c not in ".,!?।。，").replace("\n", " ")
        shown_until = spoken[i + 1].end_ms if i + 1 < len(spoken) else cue.end_ms
        cues.append(Cue(cue.start_ms, shown_until - cue.start_ms, " ".join(text.split())))
    return tuple(cues)


def _track(row: Row, number: int, spec: str) -> Track:
    lang, _, kind = spec.partition("/")
    manual = _manual_cues(row, number, lang)
    name = LANGUAGE_NAMES[lang]
    if kind == "asr":
        return Track(lang, f"{name} (auto-generated)", "asr", _automatic_cues(manual))
    return Track(lang, name, "manual", manual)


def _video(row: Row, number: int) -> Video:
    tracks = tuple(_track(row, number, spec) for spec in row.tracks.split())
    said = row.spoken or row.tracks.partition(" ")[0].partition("/")[0]
    spoken = _track(row, number, said) if said else None
    heard = tracks if spoken is None else (*tracks, spoken)
    last_ms = max((track.cues[-1].end_ms for track in heard), default=60_000)
    every_ms = last_ms // row.chapters if row.chapters else 0
    chapters = tuple(
        Chapter(i * every_ms, f"Part {i + 1}: {row.title}") for i in range(row.chapters)
    )
    return Video(
        id=video_id(f"{number}:{row.title}"),
        title=row.title,
        author=AUTHOR,
        duration_s=last_ms // 1000 + 1,
        tracks=tracks,
        chapters=chapters,
        panel=row.panel,
        playability=row.playability,
        live=row.live,
        spoken=spoken,
        fault=row.fault,
    )


CATALOGUE: dict[str, Video] = {
    video.id: video for video in (_video(row, i) for i, row in enumerate(TABLE, start=1))
}


def by_title(title: str) -> Video:
    """The made-up video of this title. Raises KeyError where there is none."""
    for video in CATALOGUE.values():
        if video.title == title:
            return video
    raise KeyError(title)


def expected_speech(video: str) -> list[Segment]:
    """What is said in a video's sound, line by line. Raises KeyError where nothing is."""
    spoken = CATALOGUE[video].spoken
    if spoken is None:
        raise KeyError(f"nobody speaks in {video}")
    return spoken.segments()


def expected_transcript(video: str, lang: str = "en", kind: TrackKind = "manual") -> list[Segment]:
    """What a client must deliver for this track: start and duration in seconds, and the text.

    Raises KeyError for an unknown video or track.
    """
    track = CATALOGUE[video].track(lang, kind)
    if track is None:
        raise KeyError(f"{video} has no {kind} track in {lang}")
    return track.segments()
