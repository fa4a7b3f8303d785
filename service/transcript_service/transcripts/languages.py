"""Choosing a caption track, by one rule for every stage.

The wanted languages are gone through in order. A track is in a wanted language when BCP 47
says so: whatever its region (`en-US` for `en`), under its old or new code (`iw` is `he`,
`no` is `nb`), and in a script that its readers read (`zh-TW` is Traditional, never
Simplified). Among those a manual track comes before an automatic one, then the exact tag,
then the nearest region (CLDR's distances), then YouTube's order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from langcodes import Language, tag_is_valid
from langcodes.data_dicts import ALL_SCRIPTS

from .model import Track, TranscriptError

# What of a tag says which language it is: language (or extended language), script, region.
_PARTS: Final = re.compile(
    r"([a-z]{2,3})(?:-([a-z]{3})){0,3}(?:-([a-z]{4}))?(?:-([a-z]{2}|[0-9]{3}))?(?![^-])"
)
# CLDR: regions of a language are up to 5 apart, Serbian's two scripts 5, Chinese's two 54.
_READABLE: Final = 10
_LONGEST_TAG: Final = 40


def choose_track(
    tracks: Sequence[Track],
    wanted: Sequence[str],
    fallbacks: Sequence[str] = (),
    *,
    name: str | None = None,
    accept_any: bool = False,
) -> Track:
    """The track to fetch, by the rule above.

    Args:
        tracks: in YouTube's order.
        wanted: languages, most wanted first.
        fallbacks: languages for where none of the wanted is there.
        name: the track must have it: `English - Dialogue`, or only `Dialogue`.
        accept_any: without any of these languages, the first manual track, else the first.

    Raises:
        TranscriptError: `language_unavailable`, with the tracks that exist.
    """
    candidates = [track for track in tracks if name is None or _is_named(track, name)]
    for language in (*wanted, *fallbacks):
        codes = [track.language for track in candidates]
        if found := ranked(codes, language):
            return min((candidates[index] for index in found), key=_is_automatic)
    if candidates and accept_any:
        return min(candidates, key=_is_automatic)
    raise TranscriptError(
        "language_unavailable",
        "There are captions, but none in a wanted language."
        if candidates
        else "There are captions, but no track of that name.",
        available=tracks,
    )


def choose_translation(
    track: Track, wanted: str | None, offered: Sequence[str], tracks: Sequence[Track] = ()
) -> str | None:
    """The language to have a track translated into, as YouTube writes it.

    `None` where none is wanted or the track is in that language already, in whichever
    region: its own words are better than a machine's.

    Args:
        offered: the languages that YouTube translates this video's captions into.
        tracks: all there are, for the error.

    Raises:
        TranscriptError: `language_unavailable` where YouTube does not offer that.
    """
    if wanted is None or same_language(track.language, wanted):
        return None
    if track.is_translatable and (found := ranked(offered, wanted)):
        return offered[found[0]]
    what = "captions into that language" if track.is_translatable else "this track"
    raise TranscriptError(
        "language_unavailable", f"YouTube does not translate {what}.", available=tracks
    )


def ranked(codes: Sequence[str], wanted: str) -> list[int]:
    """The places of the codes that are the wanted language, the nearest first."""
    near = [
        (_plain(code) != _plain(wanted), distance, index)
        for index, code in enumerate(codes)
        if (distance := _distance(wanted, code)) is not None
    ]
    return [index for _, _, index in sorted(near)]


def same_language(have: str, wanted: str) -> bool:
    """Whether whoever wants one language is served with the other."""
    return _distance(wanted, have) is not None


def _is_named(track: Track, name: str) -> bool:
    have, want = track.name.casefold(), name.casefold()
    return have == want or have.endswith(f" - {want}")


def _is_automatic(track: Track) -> bool:
    return track.kind != "manual"


def _plain(tag: str) -> str:
    return tag[:_LONGEST_TAG].lower().replace("_", "-")


def _distance(wanted: str, have: str) -> int | None:
    """CLDR's distance between two tags of one language; `None` where they are not."""
    if _plain(wanted) == _plain(have):
        return 0
    (want, is_bare), (other, _) = _read(_plain(wanted)), _read(_plain(have))
    if want is None or other is None:
        return None
    # `nb` and `no` are 1 apart, Bosnian and Croatian 4: each the nearest of its kind.
    if Language.make(want.language).distance(Language.make(other.language), True) > 1:
        return None
    distance = want.distance(other)
    # Who wants `zh` did not say which script.
    return distance if is_bare or distance < _READABLE else None


@lru_cache(maxsize=4096)
def _read(tag: str) -> tuple[Language | None, bool]:
    """The language of a tag, and whether the tag names neither script nor region.

    The library keeps for ever what it was asked about, and callers send what they like, so
    it is asked about languages, scripts and regions that there are.
    """
    parts = _PARTS.match(tag)
    if not parts:
        return None, False
    language = Language.get(parts[2] or parts[1])  # under its present code
    script = parts[3].title() if parts[3] else language.script
    if script and script not in ALL_SCRIPTS:
        return None, False
    region = parts[4] and f"und-{parts[4]}"
    territory = Language.get(region).territory if region and tag_is_valid(region) else None
    found = Language.make(language.language, script=script, territory=territory)
    return found, not script and not territory
