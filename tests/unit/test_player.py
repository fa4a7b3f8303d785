"""A player answer lists tracks or says why there are none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.player import check_watch_page, needs_po_token, read_player

VIDEO = "a-B_9cD3eFg"
URL = f"https://www.youtube.com/api/timedtext?v={VIDEO}&lang=en"


def player(status: str = "OK", reason: str | None = None, **rest: Any) -> bytes:
    playability = {"status": status, **({"reason": reason} if reason else {})}
    answer = {"playabilityStatus": {**playability, **rest.pop("more", {})}}
    return orjson.dumps({**answer, "videoDetails": {"videoId": VIDEO}, **rest})


def said(subreason: str, **more: Any) -> dict[str, Any]:
    """An error screen as the player shows it."""
    texts = {"subreason": {"runs": [{"text": subreason}]}, **more}
    return {"errorScreen": {"playerErrorMessageRenderer": texts}}


def with_tracks(*tracks: Any) -> bytes:
    return player(captions={"playerCaptionsTracklistRenderer": {"captionTracks": list(tracks)}})


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        (player(), "transcripts_disabled"),
        (with_tracks(), "transcripts_disabled"),
        (player(videoDetails={"videoId": VIDEO, "isLive": True}), "live_stream"),
        # About the video, each by its reason.
        (player("ERROR", "This video is unavailable"), "video_unavailable"),
        (player("ERROR", "Video unavailable", more=said("This video isn’t available anymore")),
         "video_unavailable"),
        (player("ERROR", "Video unavailable", more=said("This video does not exist")),
         "video_unavailable"),
        (player("ERROR", "This video has been removed by the uploader"),
         "video_removed_by_uploader"),
        (player("ERROR", "Video unavailable", more=said(
            "This video has been removed for violating YouTube's Terms of Service")),
         "video_removed_by_youtube"),
        (player("ERROR", "Video unavailable", more=said(
            "This video is no longer available due to a copyright claim by Somebody")),
         "video_removed_copyright"),
        (player("ERROR", "Video unavailable", more=said(
            "This video is no longer available because the YouTube account associated with "
            "this video has been terminated.")), "account_closed"),
        (player("ERROR", "Video unavailable", more=said(
            "This video is no longer available because the uploader has closed their YouTube "
            "account.")), "account_closed"),
        (player("UNPLAYABLE", "Video unavailable", more=said(
            "The uploader has not made this video available in your country")),
         "country_blocked"),
        (player("UNPLAYABLE", "Video unavailable", more=said(
            "This video contains content from Somebody, who has blocked it in your country on "
            "copyright grounds")), "country_blocked"),
        (player("UNPLAYABLE", "Join this channel to get access to members-only content like "
                "this video, and other exclusive perks."), "members_only"),
        (player("UNPLAYABLE", "This video requires payment to watch."), "payment_required"),
        (player("UNPLAYABLE", "This video is only available to Music Premium members"),
         "payment_required"),
        (player("UNPLAYABLE", more={"errorScreen": {"playerLegacyDesktopYpcOfferRenderer":
         {"itemTitle": "A film"}}}), "payment_required"),
        (player("LIVE_STREAM_OFFLINE", "Premieres in 3 hours"), "video_upcoming"),
        (player("LIVE_STREAM_OFFLINE", "", more={"liveStreamability": {"liveStreamabilityRenderer":
         {"offlineSlate": {"liveStreamOfflineSlateRenderer": {"scheduledStartTime": "1"}}}}}),
         "video_upcoming"),
        (player("LIVE_STREAM_OFFLINE", "This live event has ended."), "live_stream"),
        (player("LIVE_STREAM_OFFLINE", "Offline."), "live_stream"),
        (player("LOGIN_REQUIRED", "This is a private video"), "video_private"),
        (player("LOGIN_REQUIRED", "This video is private", more=said(
            "Sign in if you’ve been granted access to this video")), "video_private"),
        (player("UNPLAYABLE", "The uploader has not made this available"), "video_unplayable"),
        (player("UNPLAYABLE", "Video unavailable", more=said("This video is not available")),
         "video_unplayable"),
        # About us.
        (player("ERROR", "This video is unavailable", more={"errorScreen":
         {"playerCaptchaViewModel": {"challenge": "x"}}}), "request_blocked"),
        (player("UNPLAYABLE", "This content isn’t available, try again later."), "rate_limited"),
        (player("UNPLAYABLE", "Video unavailable", more=said(
            "This content isn’t available, try again later. The session has been rate-limited.")),
         "rate_limited"),
        (player("ERROR", "This video is unavailable", more=said(
            "Watch on the latest version of YouTube.")), "client_outdated"),
        (player("UNPLAYABLE", "The page needs to be reloaded."), "client_outdated"),
        (player("ERROR", "YouTube is no longer supported in this application or device."),
         "client_outdated"),
        (player("LOGIN_REQUIRED", "Please sign in"), "request_blocked"),
        # What is not understood is never said of the video.
        (player("ERROR", "Something new of 2027"), "playability_unknown"),
        (player("ERROR", "Video unavailable", more=said("Something new of 2027")),
         "playability_unknown"),
        (player("ERROR"), "playability_unknown"),
        (player("UNPLAYABLE", "An error occurred. Please try again later."),
         "playability_unknown"),
        (player("LOGIN_REQUIRED", "Something new of 2027"), "playability_unknown"),
        (player("SOMETHING_NEW", "Video unavailable"), "playability_unknown"),
        (player(videoDetails={"videoId": "otherVideo1"}), "wrong_video"),
        (player("ERROR", "This video is unavailable", videoDetails={"videoId": "otherVideo1"}),
         "wrong_video"),
        (player(videoDetails={}), "parse_error"),
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
        read_player(body, VIDEO).captions()
    assert refusal.value.error_type == error_type


def test_tracks_are_read_in_both_shapes_and_damaged_ones_left_out() -> None:
    tracks = read_player(
        with_tracks(
            {"languageCode": "en", "baseUrl": URL, "kind": "asr",
             "name": {"runs": [{"text": "English"}, {"text": " (auto)"}]}},
            {"languageCode": "de", "baseUrl": URL + "&exp=xpe", "name": {"simpleText": "German"}},
            {"languageCode": "fr"}, {"baseUrl": URL}, None, 7,
            {"languageCode": "it", "baseUrl": "https://[nowhere/"},
        ), VIDEO
    ).captions()  # fmt: skip
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
