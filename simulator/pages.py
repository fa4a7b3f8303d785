"""The HTML pages: watch page (desktop and mobile, all panel layouts), consent form, captcha."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template

from simulator import innertube
from simulator.innertube import Json
from simulator.model import Video

API_KEY = "SIMULATED-INNERTUBE-KEY"
CLIENT_VERSION = "2.20261110.00.00"
CONSENT_VERSION = "cb.20261110-07-p0.en+FX+119"
"""The consent form's hidden field ``v``; clients answer with the cookie CONSENT=YES+{v}."""

_TEMPLATES = {
    path.name: Template(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).parent / "templates").iterdir()
}


def watch(
    video: Video,
    player_response: Json,
    *,
    mobile: bool,
    hl: str,
    fault: str | None = None,
) -> str:
    """The watch page. ``hl`` is the interface language, which get_panel answers in.

    Labels stay English whatever ``hl`` says. ``fault`` is the name of one of
    the faults that live in the page.
    """
    openable = video.panel != "none" and bool(video.tracks) and video.playability.ok
    config = _config("MWEB" if mobile else "WEB", hl)
    if fault == "no_api_key":
        del config["INNERTUBE_API_KEY"]
    options = {
        "mobile": mobile,
        "classic": video.panel == "classic",
        "consentDialog": fault == "consent_dialog",
        "endlessScript": fault == "endless_script",
    }
    title = html.escape(video.title)
    body = _fill(
        "mobile.html" if mobile else "desktop.html",
        video_id=video.id,
        title=title,
        description=html.escape(innertube.description(video)).replace("\n", "<br>"),
        player_text=html.escape(player_response["playabilityStatus"].get("reason", "▶")),
        menu_entry=_MENU_ENTRY if openable and video.panel == "classic" else "",
        transcript_section=_transcript_section(mobile=mobile) if openable else "",
        panel=_panel(video, mobile=mobile) if openable else "",
    )
    return _fill(
        "watch.html",
        hl=html.escape(hl),
        title=title,
        video_id=video.id,
        ytcfg=_script_json(config),
        player_response=_script_json(player_response),
        initial_data=_script_json(innertube.initial_data(video)),
        body=body,
        script=_TEMPLATES["watch.js"].safe_substitute(options=_script_json(options)),
    )


def embed(hl: str) -> str:
    """The page of an embedded player, from which clients read a context of its kind."""
    config = _script_json(_config("WEB_EMBEDDED_PLAYER", hl))
    return (
        "<!DOCTYPE html><html><head><title>YouTube</title></head><body><div id=player></div>"
        f"<script>var ytcfg={{set(){{}}}};ytcfg.set({config});</script></body></html>"
    )


def _config(client: str, hl: str) -> Json:
    """What the page hands to ``ytcfg.set``."""
    context = _context(client, hl)
    return {
        "HL": hl,
        "INNERTUBE_API_KEY": API_KEY,
        "INNERTUBE_API_VERSION": "v1",
        "INNERTUBE_CLIENT_NAME": client,
        "INNERTUBE_CLIENT_VERSION": CLIENT_VERSION,
        "INNERTUBE_CONTEXT": context,
        "INNERTUBE_CONTEXT_CLIENT_NAME": {"WEB": 1, "MWEB": 2, "WEB_EMBEDDED_PLAYER": 56}[client],
        "INNERTUBE_CONTEXT_CLIENT_VERSION": CLIENT_VERSION,
        "INNERTUBE_CONTEXT_HL": hl,
        "LOGGED_IN": False,
        "VISITOR_DATA": context["client"]["visitorData"],
    }


def _context(client: str, hl: str) -> Json:
    """INNERTUBE_CONTEXT, which the page sends back with every call."""
    return {
        "client": {
            "hl": hl,
            "gl": "US",
            "clientName": client,
            "clientVersion": CLIENT_VERSION,
            "visitorData": "CgtTaW11bGF0b3IwMSiAgICABg%3D%3D",
            "platform": "MOBILE" if client == "MWEB" else "DESKTOP",
        },
        "user": {"lockedSafetyMode": False},
        "request": {"useSsl": True},
    }


def consent(target: str) -> str:
    """The consent form; ``target`` is where its buttons lead back to."""
    return _fill("consent.html", target=html.escape(target), version=CONSENT_VERSION)


def recaptcha() -> str:
    """The page a blocked address gets: a captcha, and no API key."""
    return _fill("recaptcha.html")


def error(title: str) -> str:
    """A web page where no web page was expected."""
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8>"
        f"<title>{html.escape(title)}</title><p><b>{html.escape(title)}</b> "
        "<ins>That’s all we know.</ins></html>"
    )


_MENU_ENTRY = (
    '<ytd-menu-service-item-renderer role="menuitem" tabindex="-1" data-opens="transcript">'
    "Show transcript</ytd-menu-service-item-renderer>"
)


def _transcript_section(*, mobile: bool) -> str:
    prefix = "ytm" if mobile else "ytd"
    return (
        f"<{prefix}-video-description-transcript-section-renderer>"
        "<h2>Transcript</h2><p>Follow along using the transcript.</p>"
        '<div id="primary-button"><yt-button-shape>'
        '<button aria-label="Show transcript" data-opens="transcript">Show transcript</button>'
        f"</yt-button-shape></div></{prefix}-video-description-transcript-section-renderer>"
    )


def _panel(video: Video, *, mobile: bool) -> str:
    prefix = "ytm" if mobile else "ytd"
    rows = "<div data-rows></div>"
    target = innertube.MODERN_PANEL
    if video.panel == "classic":
        target = innertube.CLASSIC_PANEL
        rows = (
            "<ytd-transcript-renderer><ytd-transcript-search-panel-renderer>"
            f"<ytd-transcript-segment-list-renderer>{rows}</ytd-transcript-segment-list-renderer>"
            "</ytd-transcript-search-panel-renderer></ytd-transcript-renderer>"
        )
    elif video.panel == "modern":
        rows = (
            f'<yt-section-list-renderer data-target-id="{target}">{rows}</yt-section-list-renderer>'
        )
    else:
        rows = _tabs(video) + rows
    name = f' target-id="{target}"' if video.panel != "tabbed" else ""
    return (
        f"<{prefix}-engagement-panel-section-list-renderer{name} data-panel "
        f'visibility="ENGAGEMENT_PANEL_VISIBILITY_HIDDEN"><h2>Transcript</h2>{rows}'
        f"</{prefix}-engagement-panel-section-list-renderer>"
    )


def _tabs(video: Video) -> str:
    chapters = "".join(
        "<ytd-macro-markers-list-item-renderer>"
        f"<div id=time>{innertube.clock(chapter.start_ms)}</div>"
        f"<h4>{html.escape(chapter.title)}</h4></ytd-macro-markers-list-item-renderer>"
        for chapter in video.chapters
    )
    # With chapters the panel opens on them, and the transcript is one more click away.
    on_chapters = bool(video.chapters)
    tabs = "".join(
        f'<yt-tab-shape role="tab" tabindex="0" tab-title="{name}" '
        f'aria-selected="{str(selected).lower()}">{name}</yt-tab-shape> '
        for name, selected in (("Chapters", on_chapters), ("Transcript", not on_chapters))
        if name == "Transcript" or on_chapters
    )
    return f"<div role=tablist>{tabs}</div><div data-chapters>{chapters}</div>"


def _fill(template: str, **values: str) -> str:
    return _TEMPLATES[template].substitute(values)


def _script_json(value: Json) -> str:
    # "</script>" inside a string would end the script element.
    return json.dumps(value, ensure_ascii=False).replace("</", "<\\/")
