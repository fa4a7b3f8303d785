"""A player answer lists tracks or says why there are none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.player import check_watch_page, needs_po_token, read_player

URL = "https://www.youtube.com/api/timedtext?v=x&lang=en"


def player(status: str = "OK", reason: str | None = None, **rest: Any) -> bytes:
    playability = {"status": status, **({"reason": reason} if reason else {})}
    return orjson.dumps({"playabilityStatus": {**playability, **rest.pop("more", {})}, **rest})


def with_tracks(*tracks: Any) -> bytes:
    return player(captions={"playerCaptionsTracklistRenderer": {"captionTracks": list(tracks)}})


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        (player(), "transcripts_disabled"),
        (with_tracks(), "transcripts_disabled"),
        (player("ERROR", "This video is unavailable"), "video_unavailable"),
        (player("ERROR", "This video has been removed by the uploader"), "video_unavailable"),
        (player("UNPLAYABLE", "The uploader has not made this available"), "video_unplayable"),
        (player("LIVE_STREAM_OFFLINE", "Premieres in 3 hours"), "video_unplayable"),
        (player("LOGIN_REQUIRED", "This is a private video"), "video_unplayable"),
        (player("LOGIN_REQUIRED", "Sign in to confirm you’re not a bot"), "request_blocked"),
        (player("LOGIN_REQUIRED", "Sign in to confirm you're not a bot"), "request_blocked"),
        (player("LOGIN_REQUIRED", "This video may be inappropriate for some users."),
         "age_restricted"),
        (player("LOGIN_REQUIRED", "Sign in to confirm your age"), "age_restricted"),
        (player("LOGIN_REQUIRED", "自分の年齢", more={"desktopLegacyAgeGateReason": 1}),
         "age_restricted"),
        (player("AGE_VERIFICATION_REQUIRED"), "age_restricted"),
        (b"", "empty_body"),
        (b"{}", "parse_error"),
        (b"[]", "parse_error"),
        (b"null", "parse_error"),
        (b'{"playabilityStatus": "OK"}', "parse_error"),
        (player()[:-5], "parse_error"),
        (b"<html>sorry", "html_body"),
    ],
)  # fmt: skip
def test_what_an_answer_without_tracks_means(body: bytes, error_type: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        read_player(body)
    assert refusal.value.error_type == error_type


def test_tracks_are_read_in_both_shapes_and_damaged_ones_left_out() -> None:
    tracks = read_player(
        with_tracks(
            {"languageCode": "en", "baseUrl": URL, "kind": "asr",
             "name": {"runs": [{"text": "English"}, {"text": " (auto)"}]}},
            {"languageCode": "de", "baseUrl": URL + "&exp=xpe", "name": {"simpleText": "German"}},
            {"languageCode": "fr"}, {"baseUrl": URL}, None, 7,
        )
    )  # fmt: skip
    assert [(t.language, t.kind, t.name, t.po_token_required) for t in tracks] == [
        ("en", "asr", "English (auto)", False),
        ("de", "manual", "German", True),
    ]
    assert "timedtext" not in repr(tracks)  # the URL is signed: a secret


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ("", False),
        ("&exp=xpe", True),
        ("&exp=xpv", True),
        ("&exp=abc%2Cxpe", True),
        ("&exp=xpelike", False),
        ("&exp=xpe&pot=abc&c=WEB", False),
    ],
)
def test_gated_caption_urls_are_known_before_they_are_asked(query: str, needed: bool) -> None:
    assert needs_po_token(URL + query) is needed


def test_pages_that_are_no_watch_page() -> None:
    check_watch_page(b'<html>"INNERTUBE_API_KEY":"abc"')
    for page, error_type in [
        (b"", "empty_body"),
        (b"<html>hello", "html_body"),
        (b'<form action="https://consent.youtube.com/s">', "consent_required"),
        (b'<div class="g-recaptcha">', "ip_blocked"),
    ]:
        with pytest.raises(TranscriptError) as refusal:
            check_watch_page(page)
        assert refusal.value.error_type == error_type
