"""Speech engines behind one interface: sound in, timed segments out."""

from __future__ import annotations

import io
import wave
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import requests

from ..resilience import Deadline
from ..resilience.bounded import BoundedAdapter
from ..settings import Settings
from .audio import SAMPLE_RATE, compress
from .http import MAX_BODY_BYTES
from .model import Segment, TranscriptError
from .spoken import Spoken, read_verbose_json, whisper_language

# An endpoint says nothing until it has heard everything.
_LISTENING_S: Final = 600.0


class SpeechEngine(ABC):
    """One way to recognise speech."""

    name: str
    # The languages it knows, or none where it finds out by itself.
    languages: tuple[str, ...] = ()

    @abstractmethod
    def recognise(self, pcm: Iterator[bytes], language: str | None, deadline: Deadline) -> Spoken:
        """Recognise signed 16-bit mono samples at 16 kHz; the work may go on with each segment.

        Args:
            pcm: the samples, in pieces of any length.
            language: what to expect, `None` to find out.
            deadline: when to give up.

        Raises:
            TranscriptError: `asr_unavailable`, `timeout`.
            DeadlineExceeded: no time is left; while segments are taken as well.
        """


def create_engine(settings: Settings) -> SpeechEngine:
    """The engine that the settings name.

    Raises:
        TranscriptError: `asr_unavailable`, saying what is missing.
    """
    if settings.asr_endpoint:
        return EndpointEngine(settings)
    if settings.asr_model_dir:
        return WhisperEngine(settings.asr_model_dir)
    return PocketsphinxEngine()


class EndpointEngine(SpeechEngine):
    """An HTTP endpoint with OpenAI's convention: `POST {base}/v1/audio/transcriptions`.

    Spoken by vLLM, whisper.cpp's server, speaches, LocalAI and others.
    """

    name = "endpoint"

    def __init__(self, settings: Settings) -> None:
        self._url = str(settings.asr_endpoint).rstrip("/") + "/v1/audio/transcriptions"
        self._model = settings.asr_model
        self._key = settings.asr_api_key_file and settings.asr_api_key_file.read_text().strip()

    def recognise(self, pcm: Iterator[bytes], language: str | None, deadline: Deadline) -> Spoken:
        """See `SpeechEngine.recognise`."""
        sound = b"".join(pcm)
        fields = {
            "model": self._model,
            "response_format": "verbose_json",  # the form that keeps the segments' times
            "timestamp_granularities[]": "segment",
        }
        if language:
            fields["language"] = whisper_language(language) or language.split("-")[0]
        try:
            response = self._post(fields, ("sound.ogg", compress(sound), "audio/ogg"), deadline)
            if _is_unread(response):
                # whisper.cpp's server reads WAV alone unless it was told that it may convert.
                response = self._post(fields, ("sound.wav", _as_wav(sound), "audio/wav"), deadline)
        except requests.Timeout:
            raise TranscriptError("timeout", "The speech endpoint did not answer.") from None
        except requests.RequestException:
            raise TranscriptError("asr_unavailable", "The speech endpoint failed.") from None
        if not response.ok:
            raise TranscriptError(
                "asr_unavailable", f"The speech endpoint answered {response.status_code}."
            )
        if _is_unread(response):
            raise TranscriptError(
                "asr_unavailable", "The speech endpoint could not read the sound."
            )
        return read_verbose_json(response.content, language, len(sound) / 2 / SAMPLE_RATE)

    def _post(
        self, fields: dict[str, str], sound: tuple[str, bytes, str], deadline: Deadline
    ) -> requests.Response:
        adapter = BoundedAdapter(
            deadline, max_body_bytes=MAX_BODY_BYTES, connect_s=10, read_s=_LISTENING_S
        )
        with requests.Session() as session:
            session.trust_env = False  # the settings alone say where sound and key go
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            return session.post(
                self._url,
                data=fields,
                files={"file": sound},
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            )


def _is_unread(response: requests.Response) -> bool:
    """Whether an endpoint did not understand the sound's format; some say so with a 200."""
    if response.ok:
        return response.content[:200].lstrip().startswith((b'{"error"', b'{ "error"'))
    return response.status_code in (400, 415, 422)


def _as_wav(pcm: bytes) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm)
    return target.getvalue()


class WhisperEngine(SpeechEngine):
    """faster-whisper over a model folder on this machine; nothing is downloaded."""

    name = "faster-whisper"

    def __init__(self, folder: Path) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise TranscriptError(
                "asr_unavailable", "ASR_MODEL_DIR needs the package faster-whisper."
            ) from None
        if not (folder / "model.bin").is_file():
            raise TranscriptError("asr_unavailable", "ASR_MODEL_DIR holds no model.bin.")
        self._model = WhisperModel(str(folder), local_files_only=True)

    def recognise(self, pcm: Iterator[bytes], language: str | None, deadline: Deadline) -> Spoken:
        """See `SpeechEngine.recognise`."""
        import numpy

        sound = numpy.frombuffer(b"".join(pcm), numpy.int16).astype(numpy.float32) / 32768
        heard, info = self._model.transcribe(
            sound, language=language and whisper_language(language), vad_filter=True
        )

        def segments() -> Iterator[Segment]:
            for item in heard:  # a generator: the work is done here, piece by piece
                deadline.check()
                if text := item.text.strip():
                    yield Segment(item.start, item.end - item.start, text)

        return Spoken(segments(), info.language)


class PocketsphinxEngine(SpeechEngine):
    """pocketsphinx with the English model of its wheel: always there, modest quality.

    An endpointer cuts the sound at pauses, so each segment is one stretch of speech with
    its own times. A decoder is made per job: it is not made for several threads.
    """

    name = "pocketsphinx"
    languages = ("en",)

    def recognise(self, pcm: Iterator[bytes], language: str | None, deadline: Deadline) -> Spoken:
        """See `SpeechEngine.recognise`."""
        return Spoken(_utterances(pcm, deadline), "en")


def _utterances(pcm: Iterator[bytes], deadline: Deadline) -> Iterator[Segment]:
    from pocketsphinx import Decoder, Endpointer

    endpointer = Endpointer(sample_rate=SAMPLE_RATE)
    # One pass, every second frame scored in full, fewer guesses kept: about a quarter of
    # real time on one core instead of half, for the same share of words understood.
    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", fwdflat=False, ds=2, maxhmmpf=3000)
    speaking = False
    for frame in _frames(pcm, endpointer.frame_bytes):
        # Frame by frame, so that a deadline is seen and other threads get their turn.
        deadline.check()
        is_last = len(frame) < endpointer.frame_bytes
        speech = endpointer.end_stream(frame) if is_last else endpointer.process(frame)
        if speech:
            if not speaking:
                decoder.start_utt()
            speaking = True
            decoder.process_raw(speech)
        if speaking and (is_last or not endpointer.in_speech):
            decoder.end_utt()
            speaking = False
            hypothesis = decoder.hyp()
            if hypothesis is not None and (text := hypothesis.hypstr.strip()):
                start, end = endpointer.speech_start, endpointer.speech_end
                yield Segment(round(start, 3), round(end - start, 3), text)


def _frames(pcm: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`; the last may be shorter, but is always there."""
    rest = b""
    for piece in pcm:
        rest += piece
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    yield rest
