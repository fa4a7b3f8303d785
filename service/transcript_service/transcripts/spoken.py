"""What a speech endpoint says it heard: read, repaired where that is safe, or refused.

Servers that speak OpenAI's convention differ in `verbose_json`: OpenAI names the language in
English, LocalAI counts nanoseconds, others leave an end or the segments out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .languages import same_language
from .model import Segment, TranscriptError
from .text import LATEST_S, as_segments, clean, number

# Whisper listens to windows of this length and fills the last one up with silence.
_WINDOW_S: Final = 30.0
# Whisper's languages, by its codes and with the names that it gives them.
_WHISPER: Final = """
af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian,
bg bulgarian, bn bengali, bo tibetan, br breton, bs bosnian, ca catalan valencian, cs czech,
cy welsh, da danish, de german, el greek, en english, es spanish castilian, et estonian,
eu basque, fa persian, fi finnish, fo faroese, fr french, gl galician, gu gujarati, ha hausa,
haw hawaiian, he hebrew, hi hindi, hr croatian, ht haitian, hu hungarian, hy armenian,
id indonesian, is icelandic, it italian, ja japanese, jw javanese, ka georgian, kk kazakh,
km khmer, kn kannada, ko korean, la latin, lb luxembourgish letzeburgesch, ln lingala, lo lao,
lt lithuanian, lv latvian, mg malagasy, mi maori, mk macedonian, ml malayalam, mn mongolian,
mr marathi, ms malay, mt maltese, my myanmar burmese, ne nepali, nl dutch flemish, nn nynorsk,
no norwegian, oc occitan, pa punjabi panjabi, pl polish, ps pashto pushto, pt portuguese,
ro romanian moldavian moldovan, ru russian, sa sanskrit, sd sindhi, si sinhala sinhalese,
sk slovak, sl slovenian, sn shona, so somali, sq albanian, sr serbian, su sundanese, sv swedish,
sw swahili, ta tamil, te telugu, tg tajik, th thai, tk turkmen, tl tagalog, tr turkish,
tt tatar, uk ukrainian, ur urdu, uz uzbek, vi vietnamese, yi yiddish, yo yoruba, yue cantonese,
zh chinese mandarin"""
_NAMES: Final = dict(line.strip().partition(" ")[::2] for line in _WHISPER.split(","))
_CODES: Final = {name: code for code, names in _NAMES.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an engine heard, and the code of the language it was in."""

    segments: Iterable[Segment]
    language: str


def whisper_language(tag: str) -> str | None:
    """Whisper's code for a language, `None` for one that it does not know."""
    return next((code for code in _NAMES if same_language(tag, code)), None)


def read_verbose_json(body: bytes, wanted: str | None, sound_s: float) -> Spoken:
    """What an answer in OpenAI's `verbose_json` says was heard.

    Args:
        body: the answer.
        wanted: the language that was asked for, for where the answer names none.
        sound_s: the length of the sound; nothing is heard after it.

    Raises:
        TranscriptError: `asr_unavailable`, saying what is wrong with the answer.
    """
    answer = _load(body)
    if not isinstance(answer, dict):
        raise _refused("is no object")
    listed = answer.get("segments")
    rows = sorted(_rows(listed if isinstance(listed, list) else []), key=lambda row: row[0])
    text = answer.get("text")
    if not rows and isinstance(text, str) and clean(text):
        if sound_s > _WINDOW_S:
            raise _refused("has a text without times")
        rows = [(0.0, sound_s, text)]
    return Spoken(as_segments(_in_seconds(rows, sound_s)), _code(answer.get("language"), wanted))


def _rows(listed: list[Any]) -> Iterator[tuple[float, float | None, str]]:
    """(start, end, text) of the segments that say something, in the answer's own unit."""
    for item in listed:
        text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str) or not clean(text):
            continue
        start = number(item.get("start"))
        if start is None:
            raise _refused("has segments without times")
        yield start, number(item.get("end")), text


def _in_seconds(
    rows: list[tuple[float, float | None, str]], sound_s: float
) -> Iterator[tuple[float, float, str]]:
    """(start, duration, text) within the sound; one without an end lasts until the next."""
    latest = max((max(start, end or 0.0) for start, end, _ in rows), default=0.0)
    unit = 1e9 if latest >= LATEST_S else 1.0  # nanoseconds
    if latest / unit > sound_s + _WINDOW_S:
        raise _refused("has times after the end of the sound")
    starts = [start for start, _, _ in rows]
    for (start, end, text), later in zip(rows, [*starts[1:], sound_s * unit], strict=False):
        known = later if end is None or end < start else end
        # What is heard in the silence that fills the last window ends with the sound.
        ends_s = min(known / unit, max(sound_s, start / unit))
        yield round(start / unit, 3), round(max(0.0, ends_s - start / unit), 3), text


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)  # reads the `NaN` that Python's servers write
    except (ValueError, RecursionError):
        raise _refused("is damaged") from None


def _refused(what: str) -> TranscriptError:
    return TranscriptError("asr_unavailable", f"The speech endpoint's answer {what}.")


def _code(said: object, wanted: str | None) -> str:
    """A language code from what an endpoint says: a code, or a name such as `english`."""
    if isinstance(said, str):
        word = said.strip().lower()
        if code := _CODES.get(word.partition(" ")[0]) or whisper_language(word):
            return code
        if 2 <= len(word) <= 3 and word.isascii() and word.isalpha():
            return word
    return wanted or "und"
