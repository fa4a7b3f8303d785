"""Recorded answers of the real YouTube, told apart by what is in them and never by file name."""

from __future__ import annotations

import hashlib
import html
import json
import re
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from simulator.model import Cue, Playability, Track, TrackKind, Video
from simulator.texts import SENTENCES

Kind = Literal[
    "watch",
    "player",
    "srv1",
    "srv3",
    "json3",
    "get_transcript",
    "get_panel",
    "consent",
    "recaptcha",
]
MAX_FILE_BYTES = 20_000_000


class RecordingsError(Exception):
    """The folder cannot be read; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded answer, served byte for byte at its kind's endpoint."""

    kind: Kind
    file: str
    body: bytes


@dataclass(slots=True)
class Recordings:
    """All recordings of a folder: the videos they belong to, and the bodies by (video id, kind)."""

    videos: dict[str, Video] = field(default_factory=dict)
    bodies: dict[tuple[str, Kind], Recording] = field(default_factory=dict)
    signatures: set[str] = field(default_factory=set)
    """Signatures of recorded caption URLs: good for ever, since nobody can renew them."""

    def get(self, video: str, kind: Kind) -> Recording | None:
        return self.bodies.get((video, kind))

    def tracks_of(self, video: str) -> Recording | None:
        """The recorded caption body of a video, in whichever format it is."""
        for kind in ("srv1", "json3", "srv3"):
            if found := self.bodies.get((video, kind)):
                return found
        return None


def load(folder: Path) -> Recordings:
    """Reads every file of the folder; what is no recording is left out. Raises RecordingsError."""
    recordings = Recordings()
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        contents = [
            (path.name, path.read_bytes())
            for path in files
            if path.stat().st_size <= MAX_FILE_BYTES
        ]
    except OSError as error:
        raise RecordingsError(
            f"cannot read the recordings in {folder}: {error.strerror}"
        ) from error
    for name, body in contents:
        kind = classify(body)
        if kind is not None:
            _add(recordings, Recording(kind, name, body))
    return recordings


def classify(body: bytes) -> Kind | None:
    """Which of YouTube's answers this is, from its content alone; None for anything else."""
    text = body.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    if text.startswith("{"):
        return _classify_json(text)
    if text.startswith(("<?xml", "<transcript", "<timedtext")):
        root = re.search(r"<(transcript|timedtext)\b", text)
        return {"transcript": "srv1", "timedtext": "srv3"}.get(root[1]) if root else None  # type: ignore[return-value]
    if "<html" not in text[:2000].lower() and "<!doctype" not in text[:200].lower():
        return None
    if '"INNERTUBE_API_KEY"' in text:
        return "watch"
    if re.search(r"""action=["']?https://consent\.(youtube|google)\.""", text):
        return "consent"
    return "recaptcha" if re.search(r"""class=["']?([\w-]+ )*g-recaptcha\b""", text) else None


def _classify_json(text: str) -> Kind | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    if "playabilityStatus" in document:
        return "player"
    if isinstance(document.get("events"), list):
        return "json3"
    if next(find_all(document, "transcriptSegmentRenderer"), None) is not None:
        return "get_transcript"
    if next(find_all(document, "transcriptSegmentViewModel"), None) is not None:
        return "get_panel"
    return None


def find_all(value: object, key: str) -> Iterator[Any]:
    """Every value under ``key``, however deep, in document order."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from find_all(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from find_all(item, key)


def _add(recordings: Recordings, recording: Recording) -> None:
    video = _video_of(recording)
    known = recordings.videos.get(video.id)
    if known is None or (not known.tracks and video.tracks) or recording.kind == "player":
        recordings.videos[video.id] = video
    recordings.bodies[video.id, recording.kind] = recording
    if recording.kind in ("player", "watch"):
        for url in re.findall(rb'/api/timedtext\?[^"]+', recording.body):
            query = parse_qs(urlsplit(url.decode().replace("\\u0026", "&")).query)
            recordings.signatures.update(query.get("signature", []))


def _assigned_id(recording: Recording) -> str:
    """An id of the usual shape for a recording that does not name its video."""
    digest = hashlib.sha256(recording.body).digest()[:8]
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _video_of(recording: Recording) -> Video:
    """The video that a recording is of; of a strange one as much as can be told."""
    try:
        return _read_video(recording, f"Recording {recording.file}")
    except (ValueError, TypeError, AttributeError, KeyError):
        named = re.search(rb'"videoId"\s*:\s*"([\w-]{11})"', recording.body)
        video = named[1].decode() if named else _assigned_id(recording)
        return Video(
            video, f"Recording {recording.file}", "", 60, panel="none", recording=recording.file
        )


def _read_video(recording: Recording, title: str) -> Video:
    if recording.kind == "player":
        return _from_player(json.loads(recording.body), recording, title)
    if recording.kind == "watch":
        return _from_player(
            player_response_of(recording.body.decode("utf-8", "replace")), recording, title
        )
    if recording.kind in ("consent", "recaptcha"):
        return Video(
            _assigned_id(recording),
            title,
            "",
            60,
            (generated_track("en", "English", "manual"),),
            panel="none",
            recording=recording.file,
        )
    try:
        cues = read_cues(recording.kind, recording.body)
    except (ElementTree.ParseError, ValueError, TypeError, AttributeError, KeyError):
        cues = []  # a damaged recording: its bytes are served all the same
    track = Track("en", "English", _guess_kind(recording.kind, recording.body, cues), tuple(cues))
    return Video(
        id=_named_id(recording) or _assigned_id(recording),
        title=title,
        author="",
        duration_s=max((cue.end_ms for cue in cues), default=0) // 1000 + 1,
        tracks=(track,),
        panel="classic" if recording.kind == "get_transcript" else "modern",
        recording=recording.file,
    )


def _id_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[\w-]{11}", value) else None


def _named_id(recording: Recording) -> str | None:
    """The id that a panel answer's segments carry in their ``targetId``."""
    found = re.search(rb'"targetId"\s*:\s*"([\w-]{11})\.', recording.body)
    return found[1].decode() if found else None


def player_response_of(page: str) -> dict[str, Any]:
    """``ytInitialPlayerResponse`` of a watch page; an empty dict where there is none."""
    match = re.search(r"ytInitialPlayerResponse\s*=\s*(?=\{)", page)
    if match is None:
        return {}
    try:
        document, _ = json.JSONDecoder().raw_decode(page, match.end())
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _from_player(answer: dict[str, Any], recording: Recording, title: str) -> Video:
    details = answer.get("videoDetails") or {}
    status = answer.get("playabilityStatus") or {}
    captions = (answer.get("captions") or {}).get("playerCaptionsTracklistRenderer") or {}
    tracks = tuple(
        generated_track(
            entry.get("languageCode", "en"),
            _text_of(entry.get("name")) or entry.get("languageCode", "en"),
            "asr" if entry.get("kind") == "asr" else "manual",
        )
        for entry in captions.get("captionTracks") or []
    )
    return Video(
        id=_id_or_none(details.get("videoId")) or _assigned_id(recording),
        title=str(details.get("title") or title),
        author=str(details.get("author") or ""),
        duration_s=int(details.get("lengthSeconds") or 60),
        tracks=tracks,
        panel="classic" if tracks else "none",
        playability=Playability(str(status.get("status", "OK")), str(status.get("reason") or "")),
        recording=recording.file,
    )


def _text_of(name: object) -> str:
    if not isinstance(name, dict):
        return ""
    return name.get("simpleText") or "".join(run.get("text", "") for run in name.get("runs", []))


def generated_track(lang: str, name: str, kind: TrackKind) -> Track:
    """A clearly made-up transcript for a recorded caption track whose text was not recorded."""
    sentences = SENTENCES.get(lang, SENTENCES["en"])
    lines = [f"Simulated {kind} captions, language {lang}.", *sentences]
    cues = tuple(Cue(i * 4000 + 200, 3600, text) for i, text in enumerate(lines))
    return Track(lang, name, kind, cues)


def read_cues(kind: Kind, body: bytes) -> list[Cue]:
    """The lines of a recorded caption or panel body, blank ones left out. Times in ms."""
    if kind in ("srv1", "srv3"):
        return _cues_of_xml(kind, body)
    document = json.loads(body)
    cues: list[Cue] = []
    if kind == "json3":
        for event in document["events"]:
            text = "".join(seg.get("utf8", "") for seg in event.get("segs", []))
            cues.append(Cue(event.get("tStartMs", 0), event.get("dDurationMs", 0), text))
    elif kind == "get_transcript":
        for row in find_all(document, "transcriptSegmentRenderer"):
            start, end = int(row.get("startMs", 0)), int(row.get("endMs", 0))
            text = "".join(run.get("text", "") for run in row.get("snippet", {}).get("runs", []))
            cues.append(Cue(start, end - start, text))
    else:
        rows = list(find_all(document, "transcriptSegmentViewModel"))
        starts = [_clock_ms(row.get("timestamp", "0:00")) for row in rows]
        ends = [*starts[1:], starts[-1] + 3000] if starts else []
        for row, start, end in zip(rows, starts, ends, strict=True):
            cues.append(Cue(start, end - start, row.get("simpleText", "")))
    return [cue for cue in cues if not cue.blank]


def _cues_of_xml(kind: Kind, body: bytes) -> list[Cue]:
    root = ElementTree.fromstring(body)  # noqa: S314 - a file the user pointed to, not a stranger's
    cues: list[Cue] = []
    if kind == "srv1":
        for line in root.iter("text"):
            text = html.unescape("".join(line.itertext()))
            start, duration = float(line.get("start", 0)), float(line.get("dur", 0))
            plain = re.sub(r"</?[A-Za-z][^<>]*>", "", text)
            cues.append(Cue(round(start * 1000), round(duration * 1000), plain))
    else:
        for line in root.iter("p"):
            text = "".join(line.itertext())
            cues.append(Cue(int(line.get("t", 0)), int(line.get("d", 0)), text))
    return [cue for cue in cues if not cue.blank]


def _clock_ms(text: str) -> int:
    total = 0
    for part in text.split(":"):
        total = total * 60 + (int(part) if part.isdigit() else 0)
    return total * 1000


def _guess_kind(kind: Kind, body: bytes, cues: list[Cue]) -> TrackKind:
    """Automatic captions time words, or keep a line until the next one ends."""
    if kind in ("json3", "srv3"):
        return "asr" if b"tOffsetMs" in body or b"aAppend" in body or b"<s" in body else "manual"
    overlaps = Counter(after.start_ms < before.end_ms for before, after in pairwise(cues))
    return "asr" if overlaps[True] > overlaps[False] else "manual"
