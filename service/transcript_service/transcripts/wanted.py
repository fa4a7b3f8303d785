"""What a caller asks for: a video and, of its captions, which."""

from __future__ import annotations

from dataclasses import dataclass

from .languages import parse_languages, parse_track_name, parse_translation
from .video_id import parse_video_id


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


def parse_wanted(video: str, lang: str | None, translate: str | None, track: str | None) -> Wanted:
    """A request from what people write.

    Raises:
        TranscriptError: `invalid_video_id`, `invalid_parameter`.
    """
    languages = () if lang is None else parse_languages(lang)
    translate_to = None if translate is None else parse_translation(translate)
    name = None if track is None else parse_track_name(track)
    return Wanted(parse_video_id(video), languages, translate_to, name)
