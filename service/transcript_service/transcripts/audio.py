"""A video's sound: found, fetched, and decoded to what speech engines want.

Two ways to it, tried in the order of ASR_AUDIO_SOURCES: the audio URL that the ANDROID
player lists, which costs two requests, and yt-dlp, which keeps up with YouTube's riddles.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import av
import orjson

from ..proxies import Proxy
from ..resilience import Deadline
from ..settings import Settings
from ..telemetry import get_logger
from .cookies import save_for_yt_dlp
from .http import DOMAINS, GATES, YouTubeSession
from .model import TranscriptError

log = get_logger(__name__)

SAMPLE_RATE: Final = 16_000
# Programs of their own. -P: this folder must not become a place to import from, it has an
# `http` of its own.
_YT_DLP: Final = ("-P", str(Path(__file__).with_name("yt_dlp_guarded.py")))
_DECODER: Final = ("-P", str(Path(__file__).with_name("sound_decoder.py")))
_MEMORY_BYTES: Final = 1_000_000_000
# The decoder takes a second of processor for some ten minutes of sound.
_DECODER_LIMITS: Final = {
    "RLIMIT_DATA": _MEMORY_BYTES,
    "RLIMIT_CPU": 600,
    "RLIMIT_FSIZE": 0,
    "RLIMIT_CORE": 0,
}
# Past this much decoded sound of one video something is wrong: twelve hours.
_MOST_SECONDS: Final = 12 * 3600
_PIECE_BYTES: Final = 65_536


def download(session: YouTubeSession, url: str) -> bytes:
    """The sound behind a player's URL.

    Raises:
        TranscriptError: what YouTube answered instead, `empty_body`, or `parse_error` for
            more than the session lets through.
    """
    # A range, because YouTube slows down requests for a whole file.
    sound = session.get(url, headers={"Range": "bytes=0-"}).content
    if not sound:
        raise TranscriptError("empty_body", "The video's sound is empty.")
    return sound


def download_with_yt_dlp(
    settings: Settings, video_id: str, deadline: Deadline, proxy: Proxy | None
) -> bytes:
    """The sound as yt-dlp gets it, in a process of its own that ends with the deadline.

    Raises:
        TranscriptError: `asr_unavailable` with the cause left in the log.
        DeadlineExceeded: no time is left.
    """
    limit_bytes = settings.asr_max_audio_mb * 1_000_000
    with tempfile.TemporaryDirectory(prefix="sound-") as folder:
        command = [
            sys.executable, *_YT_DLP, "--ignore-config", "--no-playlist", "--no-progress",
            "--format", "worstaudio[protocol=https]/worst[protocol=https]", "--no-part",
            "--fixup", "never", "--max-filesize", str(limit_bytes), "--cache-dir", folder,
            "--output", f"{folder}/sound.%(ext)s",
        ]  # fmt: skip
        fence: dict[str, Any] = {
            "domains": DOMAINS,
            "hosts": sorted(GATES),
            "file_bytes": limit_bytes,
            "memory_bytes": _MEMORY_BYTES,
        }
        # What happens to be in the environment must not decide where requests go.
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        if proxy:
            # Not on the command line, where every user of the machine could read it.
            environment |= {"https_proxy": proxy.as_url(), "http_proxy": proxy.as_url()}
            fence["proxy"] = urlsplit(proxy.server).netloc
        elif settings.youtube_resolve_to:
            fence["connect_to"] = settings.youtube_resolve_to
        environment["YT_DLP_FENCE"] = orjson.dumps(fence).decode()
        cookies = Path(folder) / "cookies.txt"
        if save_for_yt_dlp(settings, "desktop", cookies):
            command += ["--cookies", str(cookies)]
        if settings.youtube_ca_file:
            command += ["--compat-options", "no-certifi"]
            environment["SSL_CERT_FILE"] = str(settings.youtube_ca_file)
        command += ["--", f"https://www.youtube.com/watch?v={video_id}"]
        code, told = _run(command, environment, deadline)
        for line in told.splitlines()[-5:]:
            log.info("asr.tool_output", tool="yt-dlp", text=line)
        files = [path for path in Path(folder).glob("sound.*") if path.stat().st_size]
        if code or not files:
            raise TranscriptError("asr_unavailable", "yt-dlp could not fetch the video's sound.")
        return files[0].read_bytes()


def _run(command: list[str], environment: dict[str, str], deadline: Deadline) -> tuple[int, str]:
    """Run a program within the deadline; its exit code and what it wrote to stderr."""
    timeout_s = deadline.timeout(600)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, told = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        # With what it has started itself, which would otherwise keep the pipe open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise TranscriptError("timeout", "yt-dlp did not finish in time.") from None
    return process.returncode, told.decode(errors="replace")


def decode(body: bytes, deadline: Deadline) -> Iterator[bytes]:
    """Signed 16-bit mono samples at 16 kHz, in pieces, decoded in a process with limits.

    Raises:
        TranscriptError: `parse_error` where it is no sound of a kind that YouTube has, or
            takes more memory or time than any has.
        DeadlineExceeded: no time is left.
    """
    with tempfile.TemporaryFile() as sound:
        sound.write(body)
        sound.seek(0)
        limits = orjson.dumps(_DECODER_LIMITS).decode()
        process = subprocess.Popen(
            [sys.executable, *_DECODER, str(SAMPLE_RATE), limits],
            env={},
            stdin=sound,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    most = left = _MOST_SECONDS * SAMPLE_RATE * 2
    with process, deadline.ending(process.kill):
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            while piece := process.stdout.read(_PIECE_BYTES):
                deadline.check()
                left -= len(piece)
                if left < 0:
                    raise TranscriptError("parse_error", "The video's sound does not end.")
                yield piece
            process.wait()
        finally:
            process.kill()  # nobody listens any more; after its end this does nothing
    deadline.check()
    if process.returncode or left == most:
        raise TranscriptError("parse_error", "The video's sound cannot be decoded.")


def encode(pcm: bytes, container: Literal["ogg", "wav"]) -> bytes:
    """Samples as WAV, or as Ogg Opus at 24 kbit/s: two hours fit into the 25 MB endpoints take."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as file:
        codec = "libopus" if container == "ogg" else "pcm_s16le"
        stream: Any = file.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = 24_000
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.sample_rate = SAMPLE_RATE
        frame.planes[0].update(pcm)
        fifo = av.AudioFifo()
        fifo.write(frame)
        # Opus takes frames of 20 ms.
        for piece in fifo.read_many(SAMPLE_RATE // 50, partial=True):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return target.getvalue()
