"""The transcript panel's JSON: get_transcript (classic) and get_panel (modern).

get_transcript has the shape of recorded answers, get_panel that of reports,
since no recording of it was found.
"""

from __future__ import annotations

from simulator import params
from simulator.innertube import CLASSIC_PANEL, MODERN_PANEL, Json, clock
from simulator.model import Chapter, Cue, Track, Video

PRECONDITION_FAILED: Json = {
    "error": {
        "code": 400,
        "message": "Precondition check failed.",
        "errors": [
            {
                "message": "Precondition check failed.",
                "domain": "global",
                "reason": "failedPrecondition",
            }
        ],
        "status": "FAILED_PRECONDITION",
    }
}


def transcript_panel(video: Video, track: Track) -> Json:
    """The answer of /youtubei/v1/get_transcript: every line with start and end in ms."""
    inner = params.transcript_params(video.id, track.lang, track.kind)
    segments: list[Json] = []
    chapters = list(video.chapters)
    for cue in track.cues:
        if cue.blank:
            continue
        while chapters and chapters[0].start_ms <= cue.start_ms:
            chapter = chapters.pop(0)
            end_ms = chapters[0].start_ms if chapters else video.duration_s * 1000
            segments.append(_section_header(chapter, end_ms))
        segments.append(
            {
                "transcriptSegmentRenderer": {
                    "startMs": str(cue.start_ms),
                    "endMs": str(cue.end_ms),
                    "snippet": {"runs": [{"text": cue.text}]},
                    "startTimeText": {"simpleText": clock(cue.start_ms)},
                    "trackingParams": "CAEQ0YwLGAAiEwjSimulated",
                    "targetId": f"{video.id}.{inner}.{cue.start_ms}.{cue.end_ms}",
                }
            }
        )
    return {
        "responseContext": {"maxAgeSeconds": 0},
        "actions": [
            {
                "updateEngagementPanelAction": {
                    "targetId": CLASSIC_PANEL,
                    "content": {
                        "transcriptRenderer": {
                            "content": {
                                "transcriptSearchPanelRenderer": {
                                    "header": {"transcriptSearchBoxRenderer": {}},
                                    "body": {
                                        "transcriptSegmentListRenderer": {
                                            "initialSegments": segments,
                                            "noResultLabel": {
                                                "runs": [{"text": "No results found"}]
                                            },
                                            "retryLabel": {"runs": [{"text": "TAP TO RETRY"}]},
                                            "touchCaptionsEnabled": False,
                                        }
                                    },
                                    "footer": _language_menu(video, track),
                                    "targetId": params.SEARCH_PANEL,
                                }
                            }
                        }
                    },
                }
            }
        ],
    }


def _section_header(chapter: Chapter, end_ms: int) -> Json:
    return {
        "transcriptSectionHeaderRenderer": {
            "startMs": str(chapter.start_ms),
            "endMs": str(end_ms),
            "snippet": {"simpleText": chapter.title},
        }
    }


def _language_menu(video: Video, chosen: Track) -> Json:
    items = [
        {
            "title": track.name,
            "selected": track == chosen,
            "continuation": {
                "reloadContinuationData": {
                    "continuation": params.transcript_params(video.id, track.lang, track.kind)
                }
            },
        }
        for track in video.tracks
    ]
    return {
        "transcriptFooterRenderer": {
            "languageMenu": {"sortFilterSubMenuRenderer": {"subMenuItems": items}}
        }
    }


def modern_panel(video: Video, track: Track) -> Json:
    """The answer of get_panel: whole seconds, no end times, one timeline per chapter."""
    timelines: list[tuple[Chapter | None, list[Cue]]] = []
    for cue in track.cues:
        if cue.blank:
            continue
        chapter = video.chapter_of(cue.start_ms)
        if not timelines or timelines[-1][0] != chapter:
            timelines.append((chapter, []))
        timelines[-1][1].append(cue)
    contents = [
        {
            "macroMarkersPanelItemViewModel": {
                "item": {
                    "timelineItemViewModel": {
                        **({"headerTitle": chapter.title} if chapter else {}),
                        "contentItems": [
                            {
                                "transcriptSegmentViewModel": {
                                    "timestamp": clock(cue.start_ms),
                                    "simpleText": cue.text,
                                }
                            }
                            for cue in cues
                        ],
                    }
                }
            }
        }
        for chapter, cues in timelines
    ]
    return {
        "responseContext": {"maxAgeSeconds": 0},
        "content": {
            "engagementPanelSectionListRenderer": {
                "panelIdentifier": MODERN_PANEL,
                "targetId": MODERN_PANEL,
                "content": {
                    "sectionListRenderer": {
                        "contents": [{"itemSectionRenderer": {"contents": contents}}]
                    }
                },
            }
        },
    }


def unknown_panel(track: Track) -> Json:
    """A panel answer in no known shape; the page's own script can still show it."""
    rows = [[clock(cue.start_ms), cue.text] for cue in track.cues if not cue.blank]
    return {"responseContext": {"maxAgeSeconds": 0}, "payload": {"v": 9, "rows": rows}}
