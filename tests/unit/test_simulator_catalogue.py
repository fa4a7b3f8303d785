"""The made-up videos are many, various, and the same on every machine."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from simulator.catalogue import (
    CATALOGUE,
    by_title,
    expected_speech,
    expected_transcript,
    video_id,
)
from simulator.model import Video

VIDEOS = list(CATALOGUE.values())


def test_there_are_at_least_fifty_videos_in_at_least_eight_languages() -> None:
    assert len(VIDEOS) >= 50
    assert len({track.lang for video in VIDEOS for track in video.tracks}) >= 8


def test_ids_have_the_shape_of_real_ones_and_never_change() -> None:
    # 64 bits in 11 characters of 6 leave two zero bits at the end.
    assert all(re.fullmatch(r"[\w-]{10}[AEIMQUYcgkosw048]", video.id) for video in VIDEOS)
    assert video_id("1:The Seven O'Clock Train") == VIDEOS[0].id == "ValvSE_cjzM"


def _overlaps(video: Video) -> bool:
    cues = video.tracks[0].cues if video.tracks else ()
    return any(a.end_ms > b.start_ms for a, b in pairwise(cues))


@pytest.mark.parametrize(
    ("trait", "found"),
    [
        ("right-to-left", lambda v: any(t.lang in ("ar", "he") for t in v.tracks)),
        ("automatic only", lambda v: {t.kind for t in v.tracks} == {"asr"}),
        ("manual and automatic", lambda v: {t.kind for t in v.tracks} == {"asr", "manual"}),
        ("chapters", lambda v: len(v.chapters) > 1),
        ("three hours", lambda v: v.duration_s >= 10_800 and len(v.tracks[0].cues) >= 3000),
        ("one segment", lambda v: bool(v.tracks) and len(v.tracks[0].cues) == 1),
        ("blank cues", lambda v: any(c.blank for t in v.tracks for c in t.cues)),
        ("overlaps", _overlaps),
        ("markup", lambda v: any(c.html for t in v.tracks for c in t.cues)),
        ("line breaks", lambda v: any("\n" in c.text.strip() for t in v.tracks for c in t.cues)),
        ("emoji", lambda v: any("🌟" in c.text for t in v.tracks for c in t.cues)),
        ("no captions", lambda v: v.playability.ok and not v.tracks and not v.live),
        ("live", lambda v: v.live),
        ("private", lambda v: v.playability.reason == "This video is private"),
        ("removed", lambda v: v.playability.status == "ERROR"),
        ("bot check", lambda v: v.fault == "bot_check"),
        *(
            (f"panel {p}", lambda v, p=p: v.panel == p)
            for p in ("classic", "modern", "tabbed", "none")
        ),
    ],
)
def test_every_kind_of_video_that_clients_meet_is_there(trait: str, found: object) -> None:
    assert callable(found)
    assert any(found(video) for video in VIDEOS), trait


def test_an_expected_transcript_has_seconds_and_no_blank_lines() -> None:
    gaps = by_title("Gaps and Pauses")
    segments = expected_transcript(gaps.id)
    assert len(segments) < len(gaps.tracks[0].cues)
    assert segments[0].start == 0.4
    assert segments[0].text == "This is film number 36."
    assert all(segment.text.strip() and segment.duration > 0 for segment in segments)


def test_a_video_without_captions_still_says_something() -> None:
    assert expected_speech(by_title("Captions Switched Off").id)


def test_what_does_not_exist_is_a_key_error() -> None:
    train = by_title("The Seven O'Clock Train").id
    for missing in (("nothing-here", "en"), (train, "ko")):
        with pytest.raises(KeyError):
            expected_transcript(*missing)
    with pytest.raises(KeyError):
        by_title("No Such Film")
    with pytest.raises(KeyError):
        expected_speech(by_title("Live from the Market").id)
