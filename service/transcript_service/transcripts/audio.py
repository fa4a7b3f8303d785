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
from typing import Any, Final

import av
import requests
from av.error import FFmpegError

from ..proxies import Proxy
from ..resilience import Deadline
from ..settings import Settings
from ..telemetry import get_logger
from .cookies import as_netscape
from .http import classify, classify_status
from .model import TranscriptError

log = get_logger(__name__)

SAMPLE_RATE: Final = 16_000
_YT_DLP: Final = ("-m", "yt_dlp")
# -P: this folder must not become a place to import from, it has an `http` of its own.
_YT_DLP_ELSEWHERE: Final = ("-P", str(Path(__file__).with_name("yt_dlp_elsewhere.py")))
# Past this much decoded sound of one video something is wrong: twelve hours.
_MOST_SECONDS: Final = 12 * 3600


def download(session: requests.Session, url: str) -> bytes:
    """The sound behind a player's URL.

    Raises:
        TranscriptError: what YouTube answered instead, `empty_body`, or `parse_error` for
            more than the session lets through.
    """
    try:
        # A range, because YouTube slows down requests for a whole file.
        response = session.get(url, headers={"Range": "bytes=0-"})
    except requests.RequestException as error:
        raise classify(error) from None
    if refusal := classify_status(response):
        raise refusal
    if not response.content:
        raise TranscriptError("empty_body", "The video's sound is empty.")
    return response.content


def download_with_yt_dlp(
    settings: Settings, video_id: str, deadline: Deadline, proxy: Proxy | None
) -> bytes:
    """The sound as yt-dlp gets it, in a process of its own that ends with the deadline.

    Raises:
        TranscriptError: `asr_unavailable` with the cause left in the log.
        DeadlineExceeded: no time is left.
    """
    limit = settings.asr_max_audio_mb
    with tempfile.TemporaryDirectory(prefix="sound-") as folder:
        command = [
            sys.executable, *_YT_DLP, "--ignore-config", "--no-playlist", "--no-progress",
            "--format", "worstaudio/worst", "--max-filesize", f"{limit}M", "--no-part",
            "--cache-dir", folder, "--output", f"{folder}/sound.%(ext)s",
        ]  # fmt: skip
        # What happens to be in the environment must not decide where requests go.
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        if proxy:
            # Not on the command line, where every user of the machine could read it.
            environment |= {"https_proxy": proxy.as_url(), "http_proxy": proxy.as_url()}
        elif settings.youtube_resolve_to:
            command[1:3] = _YT_DLP_ELSEWHERE
            environment["YT_DLP_CONNECT_TO"] = settings.youtube_resolve_to
        if cookies := as_netscape(settings, "desktop"):
            # In a file of its own: yt-dlp writes the one it is given.
            copy = Path(folder) / "cookies.txt"
            copy.touch(mode=0o600)
            copy.write_text(cookies)
            command += ["--cookies", str(copy)]
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
    """Signed 16-bit mono samples at 16 kHz, in pieces, whatever the container and codec.

    Raises:
        TranscriptError: `parse_error` where it is no sound.
        DeadlineExceeded: no time is left.
    """
    samples = 0
    try:
        with av.open(io.BytesIO(body), "r") as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(audio=0):
                deadline.check()
                for piece in resampler.resample(frame):
                    samples += piece.samples
                    if samples > _MOST_SECONDS * SAMPLE_RATE:
                        raise TranscriptError("parse_error", "The video's sound does not end.")
                    yield _bytes(piece)
            for piece in resampler.resample(None):
                yield _bytes(piece)
    except (FFmpegError, IndexError, ValueError):
        raise TranscriptError("parse_error", "The video's sound cannot be decoded.") from None


def _bytes(piece: Any) -> bytes:
    # A plane is padded; only the samples count.
    return bytes(piece.planes[0])[: piece.samples * 2]


def compress(pcm: bytes) -> bytes:
    """Samples as Ogg Opus at 24 kbit/s: two hours fit into the 25 MB endpoints take."""
    target = io.BytesIO()
    with av.open(target, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = 24_000
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.sample_rate = SAMPLE_RATE
        frame.planes[0].update(pcm)
        fifo = av.AudioFifo()
        fifo.write(frame)
        # Opus takes frames of 20 ms.
        for piece in fifo.read_many(SAMPLE_RATE // 50, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return target.getvalue()
