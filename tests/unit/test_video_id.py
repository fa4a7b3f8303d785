"""A video is named by its id or by any YouTube URL, and by nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.wanted import parse_video_id

ID = "a-B_9cD3eFg"


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f" {ID}\n",
        f"https://www.youtube.com/watch?v={ID}",
        f"http://youtube.com/watch?v={ID}",
        f"https://m.youtube.com/watch?app=desktop&v={ID}&t=42s",
        f"https://music.youtube.com/watch?v={ID}&list=RDAMVM{ID}",
        f"www.youtube.com/watch?v={ID}",
        f"youtube.com/watch?v={ID}#t=10",
        f"https:/www.youtube.com/watch?v={ID}",
        f"HTTPS://WWW.YOUTUBE.COM/watch?v={ID}",
        f"https://youtu.be/{ID}",
        f"https://youtu.be/{ID}?si=AbCdEfGhIjKlMnOp",
        f"youtu.be/{ID}",
        f"https://www.youtube.com/embed/{ID}?autoplay=1",
        f"https://www.youtube-nocookie.com/embed/{ID}",
        f"https://www.youtube.com/shorts/{ID}",
        f"https://www.youtube.com/live/{ID}?feature=share",
        f"https://www.youtube.com/v/{ID}",
        f"https://www.youtube.com/attribution_link?a=x&u=%2Fwatch%3Fv%3D{ID}%26feature%3Dshare",
        f"https://www.youtube.com/oembed?url=https%3A//www.youtube.com/watch?v%3D{ID}&format=json",
        f"https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3D{ID}",
        f"https://www.youtube.com/watch?v={ID}?format=text",  # the path, then our own query
        f"https://www.youtube.com/watch?v={ID}?",
        f"https://www.youtube.com/watch?v={ID}?si=abc",
        f"https://www.youtube.com/watch?feature=x&amp;v={ID}",
        f"https://www.youtube.com/watch?feature=x&amp;amp;v={ID}&amp;t=3",
        f"https://youtu.be/{ID}&t=30",
        f"https://youtu.be/{ID}&feature=youtu.be?t=1",
        f"https://youtu.be/{ID}/",
        f"https://youtu.be/watch?v={ID}",
        f"https://www.youtube.com/shorts/{ID}&feature=share",
        f"https://www.youtube.com/live/{ID}&t=3",
        f"https://www.youtube.com/embed/{ID}&rel=0",
        f"https://consent.youtube.com/m?continue=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3D{ID}"
        "%26cbrd%3D1&gl=DE&m=0&pc=yt&hl=de",
        f"https://consent.google.de/ml?continue=https://www.youtube.com/watch?v%3D{ID}&gl=DE",
        "https://accounts.google.com/ServiceLogin?service=youtube&continue=https%3A%2F%2F"
        "www.youtube.com%2Fsignin%3Faction_handle_signin%3Dtrue%26next%3D%252Fwatch%253Fv%253D"
        f"{ID}%26hl%3Den&hl=en",
        f"https://www.youtube.com/signin?next=%2Fwatch%3Fv%3D{ID}",
        f"https://www.google.com/url?sa=t&url=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3D{ID}",
        f"https://www.youtubekids.com/watch?v={ID}&hl=en",
        f"https://youtube.googleapis.com/v/{ID}?version=3",
        f"https://www.youtube.com./watch?v={ID}",
        f"https://youtu.be/{ID}.",
        f"https://youtu.be/{ID}...",
        f"https://www.youtube.com/watch?v={ID}.",
        f"{ID}.",
        f"<https://youtu.be/{ID}>",
        f"(https://youtu.be/{ID}),",
        f'"https://youtu.be/{ID}"',
        f"\u200bhttps://youtu.be/{ID}\u200b",
        f"https://www.youtube.com/watch?v=\u200e{ID}\ufeff",
        f"\u202a{ID}\u202c",
        f"\xa0{ID}\u3000",
        f"https://www.youtube.com/watch?v={ID}&list=PL1234567890",
        f"https://www.youtube.com/embed/videoseries?list=PL1&v={ID}",
        f"https://m.youtube.com/#/watch?v={ID}",
        f"https://www.youtube.com/watch#!v={ID}",
        f"https://www.youtube.com/tv#/watch?v={ID}",
        f"//www.youtube.com/watch?v={ID}",
        f"Watch this: https://youtu.be/{ID}?si=x via @someone",
    ],
)
def test_every_form_people_paste_names_the_video(text: str) -> None:
    assert parse_video_id(text) == ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        ID + "x",
        "a" * 5000,
        "a+B_9cD3eFg",
        "ａ-B_9cD3eFg",
        "../../etc/passwd",
        f"https://example.com/watch?v={ID}",
        f"https://youtube.com.example.com/watch?v={ID}",
        f"https://notyoutube.com/watch?v={ID}",
        f"ftp://www.youtube.com/watch?v={ID}",
        "javascript:alert(1)",
        "https://www.youtube.com/watch?v=tooshort",
        "https://www.youtube.com/@channel",
        "https://www.youtube.com/playlist?list=PL1234567890",
        "https://[bad/watch?v=" + ID,
        f"https://www.youtube.com/watch?{'&' * 3000}v={ID}",
        f"{ID}\x00",
        f"https://www.youtube.com/watch?v={ID}\x00",
        f"https://www.youtube.com/watch?v={ID}x",
        f"https://www.youtube.com/redirect?q=https%3A%2F%2Fexample.com%2Fwatch%3Fv%3D{ID}",
        f"https://www.google.com/watch?v={ID}",
        f"https://accounts.google.com.example.com/?continue=https://youtu.be/{ID}",
        "https://youtu.be/" + "?continue=/" * 150,
    ],
)
def test_anything_else_is_refused_as_invalid(text: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        parse_video_id(text)
    assert refusal.value.error_type == "invalid_video_id"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://www.youtube.com/playlist?list=PL1234567890", "playlist"),
        ("https://www.youtube.com/watch?list=PL1234567890", "playlist"),
        ("https://www.youtube.com/embed/videoseries?list=PL123", "playlist"),
        ("https://www.youtube.com/embed/live_stream?channel=UC123", "channel"),
        ("https://www.youtube.com/@somebody", "channel"),
        ("https://www.youtube.com/@somebody/live", "channel"),
        ("youtube.com/channel/UC1234567890123456789012", "channel"),
        ("https://www.youtube.com/c/somebody/videos", "channel"),
        ("https://www.youtube.com/user/somebody", "channel"),
        ("https://consent.youtube.com/m?continue=https://www.youtube.com/@somebody", "channel"),
    ],
)
def test_a_playlist_or_channel_is_refused_by_that_name(text: str, name: str) -> None:
    with pytest.raises(TranscriptError, match=f"That is a {name}, not a video") as refusal:
        parse_video_id(text)
    assert refusal.value.error_type == "invalid_video_id"


@given(st.text(max_size=300) | st.text().map(lambda tail: f"https://www.youtube.com/{tail}"))
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    try:
        video = parse_video_id(text)
    except TranscriptError as error:
        assert error.error_type == "invalid_video_id"
    else:
        assert len(video) == 11
