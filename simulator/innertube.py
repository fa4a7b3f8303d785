"""The JSON that describes a video: the player answer, and the data a watch page holds.

Shapes follow the recorded answers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from simulator import params
from simulator.model import Playability, Track, Video
from simulator.texts import LANGUAGE_NAMES

Json = dict[str, Any]

CLASSIC_PANEL = "engagement-panel-searchable-transcript"
MODERN_PANEL = "PAmodern_transcript_view"
CHAPTERS_PANEL = "engagement-panel-macro-markers-description-chapters"

WEB_CLIENTS = frozenset({"WEB", "MWEB", "WEB_EMBEDDED_PLAYER", "WEB_REMIX", "TVHTML5"})
"""Clients that get ``simpleText`` names and gated caption URLs; apps get ``runs`` and neither."""


def player(
    video: Video,
    *,
    playability: Playability,
    web: bool,
    caption_url: Callable[[Track], str],
    audio: list[Json],
) -> Json:
    """The answer of /youtubei/v1/player, or ``ytInitialPlayerResponse`` with ``web``."""
    answer: Json = {
        "responseContext": {"visitorData": "CgtTaW11bGF0b3IwMSiAgICABg%3D%3D", "maxAgeSeconds": 0},
        "playabilityStatus": _playability(playability, live=video.live),
        "trackingParams": "CAAQu2kiEwjSimulated",
    }
    # A page that refuses to say anything about the visitor says nothing about the video either.
    if playability.status == "ERROR" or "bot" in playability.reason:
        return answer
    answer["videoDetails"] = _details(video)
    answer["microformat"] = {
        "playerMicroformatRenderer": {
            "title": {"simpleText": video.title},
            "lengthSeconds": str(video.duration_s),
            "ownerChannelName": video.author,
            "isFamilySafe": True,
            "category": "Education",
            "publishDate": "2026-01-15T08:00:00-08:00",
            "uploadDate": "2026-01-15T08:00:00-08:00",
        }
    }
    if not playability.ok:
        return answer
    answer["streamingData"] = {
        "expiresInSeconds": "21540",
        "formats": [],
        "adaptiveFormats": [] if video.live else audio,
    }
    if video.tracks:
        answer["captions"] = {
            "playerCaptionsTracklistRenderer": _captions(video, web=web, caption_url=caption_url)
        }
    return answer


def _playability(playability: Playability, *, live: bool) -> Json:
    status: Json = {"status": playability.status, "contextParams": "Q0FFU0FnZ0M="}
    if playability.ok:
        status["playableInEmbed"] = True
    else:
        status["reason"] = playability.reason
        message: Json = {"reason": {"runs": [{"text": playability.reason}]}}
        if playability.subreason:
            message["subreason"] = {"runs": [{"text": playability.subreason}]}
        status["errorScreen"] = {playability.screen: message}
    if live:
        status["liveStreamability"] = {"liveStreamabilityRenderer": {"pollDelayMs": "15000"}}
    return status


def _details(video: Video) -> Json:
    return {
        "videoId": video.id,
        "title": video.title,
        "lengthSeconds": "0" if video.live else str(video.duration_s),
        "keywords": ["simulated"],
        "channelId": "UCsimulatedchannel00000A",
        "isOwnerViewing": False,
        "shortDescription": description(video),
        "isCrawlable": True,
        "thumbnail": {"thumbnails": []},
        "allowRatings": True,
        "viewCount": str(1000 + video.duration_s),
        "author": video.author,
        "isPrivate": False,
        "isUnpluggedCorpus": False,
        "isLiveContent": video.live,
        **({"isLive": True} if video.live else {}),
    }


def description(video: Video) -> str:
    """The text under a video; chapters are listed with their times, as YouTube reads them."""
    chapters = [f"{clock(chapter.start_ms)} {chapter.title}" for chapter in video.chapters]
    return "\n".join([f"{video.title}, a film by {video.author}.", *chapters])


def _name(text: str, *, web: bool) -> Json:
    return {"simpleText": text} if web else {"runs": [{"text": text}]}


def _captions(video: Video, *, web: bool, caption_url: Callable[[Track], str]) -> Json:
    tracks = [
        {
            "baseUrl": caption_url(track),
            "name": _name(track.name, web=web),
            "vssId": ("a." if track.kind == "asr" else ".") + track.lang,
            "languageCode": track.lang,
            **({"kind": "asr"} if track.kind == "asr" else {}),
            "isTranslatable": True,
            "trackName": "",
        }
        for track in video.tracks
    ]
    default = video.default_track()
    return {
        "captionTracks": tracks,
        "audioTracks": [
            {
                "captionTrackIndices": list(range(len(tracks))),
                "defaultCaptionTrackIndex": video.tracks.index(default) if default else 0,
                "hasDefaultTrack": True,
            }
        ],
        "translationLanguages": [
            {"languageCode": code, "languageName": _name(name, web=web)}
            for code, name in LANGUAGE_NAMES.items()
        ],
        "defaultAudioTrackIndex": 0,
    }


def initial_data(video: Video) -> Json:
    """``ytInitialData`` of the watch page, as far as transcript clients read it."""
    panels: list[Json] = []
    if video.chapters:
        panels.append(_chapters_panel(video))
    track = video.default_track()
    if track is not None and video.panel != "none" and video.playability.ok:
        panels.append(_transcript_entry(video, track))
    contents = [
        {
            "videoPrimaryInfoRenderer": {
                "title": {"runs": [{"text": video.title}]},
                "viewCount": {
                    "videoViewCountRenderer": {"viewCount": {"simpleText": "1,000 views"}}
                },
            }
        },
        {
            "videoSecondaryInfoRenderer": {
                "owner": {"videoOwnerRenderer": {"title": {"runs": [{"text": video.author}]}}},
                "attributedDescription": {"content": description(video)},
            }
        },
    ]
    return {
        "responseContext": {"maxAgeSeconds": 0},
        "contents": {"twoColumnWatchNextResults": {"results": {"results": {"contents": contents}}}},
        "currentVideoEndpoint": {"watchEndpoint": {"videoId": video.id}},
        "engagementPanels": panels,
    }


def _chapters_panel(video: Video) -> Json:
    starts = [*(chapter.start_ms for chapter in video.chapters), video.duration_s * 1000]
    items = [
        {
            "macroMarkersListItemRenderer": {
                "title": {"simpleText": chapter.title},
                "timeDescription": {"simpleText": clock(start)},
                "onTap": {
                    "watchEndpoint": {"videoId": video.id, "startTimeSeconds": start // 1000}
                },
                "durationMs": str(end - start),
            }
        }
        for chapter, (start, end) in zip(video.chapters, pairwise(starts), strict=True)
    ]
    return {
        "engagementPanelSectionListRenderer": {
            "panelIdentifier": CHAPTERS_PANEL,
            "targetId": CHAPTERS_PANEL,
            "content": {"macroMarkersListRenderer": {"contents": items}},
        }
    }


def _transcript_entry(video: Video, track: Track) -> Json:
    """Where the page finds the params of its panel call."""
    classic = video.panel == "classic"
    panel = CLASSIC_PANEL if classic else MODERN_PANEL
    command: Json = (
        {
            "commandMetadata": {
                "webCommandMetadata": {"sendPost": True, "apiUrl": "/youtubei/v1/get_transcript"}
            },
            "getTranscriptEndpoint": {
                "params": params.transcript_params(video.id, track.lang, track.kind)
            },
        }
        if classic
        else {
            "commandMetadata": {
                "webCommandMetadata": {"sendPost": True, "apiUrl": "/youtubei/v1/get_panel"}
            },
            "showEngagementPanelEndpoint": {
                "identifier": {"tag": MODERN_PANEL},
                "globalConfiguration": {"params": params.panel_params(video.id)},
            },
        }
    )
    renderer: Json = {
        "header": {
            "engagementPanelTitleHeaderRenderer": {"title": {"runs": [{"text": "Transcript"}]}}
        },
        "content": {
            "continuationItemRenderer": {
                "trigger": "CONTINUATION_TRIGGER_ON_ITEM_SHOWN",
                "continuationEndpoint": command,
            }
        },
        "visibility": "ENGAGEMENT_PANEL_VISIBILITY_HIDDEN",
    }
    # The tabbed variant has no name of its own: Chapters and Transcript share one panel.
    if video.panel != "tabbed":
        renderer |= {"panelIdentifier": panel, "targetId": panel}
    return {"engagementPanelSectionListRenderer": renderer}


def clock(ms: int) -> str:
    """A time as the page shows it: 0:07, 12:30, 1:02:03."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
