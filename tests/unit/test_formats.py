"""The four ways a transcript is written."""

from __future__ import annotations

import orjson
import pytest

from transcript_service.transcripts.formats import FORMATS
from transcript_service.transcripts.model import Attempt, Segment, Track, Transcript

TRANSCRIPT = Transcript(
    video_id="a-B_9cD3eFg",
    source="youtube_api",
    language="en",
    kind="manual",
    segments=(
        Segment(0.0, 1.5, "1 < 2 & 3 --> 4"),
        Segment(3661.0015, 2.0, "two\n\nlines"),
        Segment(59.9996, 0.0, "مرحبا 🎬"),
    ),
    available=(Track("en", "manual", "English", url="https://secret"),),
    attempts=(Attempt("youtube_api", "success", None, 0.25),),
)


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [
        ("text", "1 < 2 & 3 --> 4\ntwo lines\nمرحبا 🎬\n"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,500\n1 < 2 & 3 --> 4\n"
            "\n2\n00:01:00,000 --> 00:01:05,000\nمرحبا 🎬\n"
            "\n3\n01:01:01,002 --> 01:01:03,002\ntwo\nlines\n",
        ),
        (
            "vtt",
            "WEBVTT\n"
            "\nNOTE Language: en\n"
            "\n00:00:00.000 --> 00:00:01.500\n1 &lt; 2 &amp; 3 --&gt; 4\n"
            "\n00:01:00.000 --> 00:01:05.000\nمرحبا 🎬\n"
            "\n01:01:01.002 --> 01:01:03.002\ntwo\nlines\n",
        ),
    ],
)
def test_written_for_players_and_people(fmt: str, expected: str) -> None:
    assert FORMATS[fmt][1](TRANSCRIPT, "").decode() == expected


def test_json_says_where_it_came_from_and_keeps_signed_urls_to_itself() -> None:
    body = FORMATS["json"][1](TRANSCRIPT, "ab" * 16)
    document = orjson.loads(body)
    assert document["trace_id"] == "ab" * 16
    assert document["segments"][0] == {"start": 0.0, "duration": 1.5, "text": "1 < 2 & 3 --> 4"}
    assert document["available"] == [{"language": "en", "kind": "manual", "name": "English"}]
    assert document["attempts"] == [
        {
            "stage": "youtube_api",
            "outcome": "success",
            "error_type": None,
            "duration_s": 0.25,
            "profile": None,
            "proxy_used": False,
        }
    ]
    assert b"secret" not in body
