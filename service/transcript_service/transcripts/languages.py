"""Choosing a caption track: exact language, then its relatives; people before machines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .model import Track, TranscriptError

# BCP 47 as YouTube writes it: `en`, `zh-Hans`, `es-419`, and `en-nP7-2PuUl7o` for named tracks.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9][A-Za-z0-9_-]{0,31})?")


def parse_languages(text: str) -> tuple[str, ...]:
    """`en,de` as a tuple, most wanted first, without repetitions.

    Raises:
        TranscriptError: `invalid_parameter`.
    """
    languages = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if len(languages) > 10 or not all(_LANGUAGE.fullmatch(language) for language in languages):
        raise TranscriptError(
            "invalid_parameter", "lang takes up to ten language codes, such as en,de or zh-Hans."
        )
    return languages


def parse_translation(text: str) -> str:
    """The one language that a transcript is to be translated into.

    Raises:
        TranscriptError: `invalid_parameter`.
    """
    language = text.strip()
    if not _LANGUAGE.fullmatch(language):
        raise TranscriptError(
            "invalid_parameter", "translate takes one language code, such as de or zh-Hans."
        )
    return language


def choose_translation(track: Track, wanted: str | None, offered: Sequence[str]) -> str | None:
    """The language to have a track translated into, as YouTube writes it.

    `None` where none is wanted or the track is in that language already: its own words
    are better than a machine's. `en` is also `en-GB`, but `zh-Hans` is not `zh-Hant`.

    Args:
        track: the chosen track.
        wanted: a language code.
        offered: the languages that YouTube translates this video's captions into.

    Raises:
        TranscriptError: `language_unavailable` where YouTube does not offer that.
    """
    if wanted is None or _same(track.language, wanted):
        return None
    if wanted.isalpha() and _related(track.language, wanted):
        return None
    if not track.is_translatable:
        raise TranscriptError("language_unavailable", "YouTube does not translate this track.")
    for matches in (_same, _related):
        for language in offered:
            if matches(language, wanted):
                return language
    raise TranscriptError(
        "language_unavailable", "YouTube does not translate captions into that language."
    )


def choose_track(
    tracks: Sequence[Track],
    wanted: Sequence[str],
    fallbacks: Sequence[str] = (),
    *,
    accept_any: bool = False,
) -> Track:
    """The track to fetch.

    For the wanted languages in order, first those that match exactly, then those of the
    same base language (`en` and `en-GB`), then the fallbacks likewise; within one
    language a manual track before an automatic one. With `accept_any` the rest follows.

    Raises:
        TranscriptError: `language_unavailable`, with the tracks that exist.
    """
    for languages in (wanted, fallbacks):
        for matches in (_same, _related):
            for language in languages:
                found = [track for track in tracks if matches(track.language, language)]
                if found:
                    return min(found, key=_automatic)
    if tracks and accept_any:
        return min(tracks, key=_automatic)
    raise TranscriptError(
        "language_unavailable",
        "There are captions, but none in a wanted language.",
        available=tracks,
    )


def _automatic(track: Track) -> bool:
    return track.kind != "manual"


def _same(have: str, want: str) -> bool:
    return have.lower().replace("_", "-") == want.lower().replace("_", "-")


def _related(have: str, want: str) -> bool:
    return re.split("[-_]", have.lower())[0] == re.split("[-_]", want.lower())[0]
