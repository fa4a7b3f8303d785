"""A video is named by its id or by any YouTube URL, and by nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.video_id import parse_video_id

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
    ],
)
def test_anything_else_is_refused_as_invalid(text: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
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
