"""What a caller asks for: a video and, of its captions, which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .model import TranscriptError
from .video_id import parse_video_id

# BCP 47 as YouTube writes it: `en`, `zh-Hans`, `es-419`, and `en-nP7-2PuUl7o` for named tracks.
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9][A-Za-z0-9_-]{0,31})?")
# Joiners and other invisible characters belong to names in Persian, Hindi or with emoji.
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request for a transcript.

    `languages` are most wanted first; none takes what there is. `translate_to` lets YouTube
    translate the chosen track, where it is in another language. `track` is the name that the
    track must have, as `available` lists it.
    """

    video_id: str
    languages: tuple[str, ...] = ()
    translate_to: str | None = None
    track: str | None = None

    @property
    def key(self) -> str:
        """The same for all that ask for the same. A track's name may hold spaces."""
        languages = ",".join(self.languages)
        return f"{self.video_id} {languages} {self.translate_to or '-'} {self.track or ''}"


def parse_wanted(
    video: str, lang: str | None = None, translate: str | None = None, track: str | None = None
) -> Wanted:
    """A request from what people write: `lang` may list several codes, such as `en,de`.

    Raises:
        TranscriptError: `invalid_video_id`, `invalid_parameter`.
    """
    languages = () if lang is None else tuple(dict.fromkeys(map(str.strip, lang.split(","))))
    if len(languages) > 10 or not all(map(_LANGUAGE.fullmatch, languages)):
        raise _wrong("lang takes up to ten language codes, such as en,de or zh-Hans.")
    translate_to = None if translate is None else translate.strip()
    if translate_to is not None and not _LANGUAGE.fullmatch(translate_to):
        raise _wrong("translate takes one language code, such as de or zh-Hans.")
    if track is not None and not (track.strip() and _NAME.fullmatch(track)):
        raise _wrong("track takes the name of one caption track.")
    return Wanted(parse_video_id(video), languages, translate_to, track and track.strip())


def _wrong(detail: str) -> TranscriptError:
    return TranscriptError("invalid_parameter", detail)
