"""Speech engines behind one interface: sound in, timed segments out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from ..resilience import Deadline
from ..resilience.bounded import BoundedAdapter
from ..settings import Settings
from .audio import SAMPLE_RATE, encode
from .http import MAX_BODY_BYTES
from .languages import same_language
from .model import Segment, TranscriptError
from .text import LATEST_S, as_segments, clean, number

# An endpoint says nothing until it has heard everything.
_LISTENING_S: Final = 600.0
# Whisper listens to windows of this length and fills the last one up with silence.
_WINDOW_S: Final = 30.0
# Whisper's languages, by its codes and with the names that it gives them.
_WHISPER: Final = """
af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian,
bg bulgarian, bn bengali, bo tibetan, br breton, bs bosnian, ca catalan valencian, cs czech,
cy welsh, da danish, de german, el greek, en english, es spanish castilian, et estonian,
eu basque, fa persian, fi finnish, fo faroese, fr french, gl galician, gu gujarati, ha hausa,
haw hawaiian, he hebrew, hi hindi, hr croatian, ht haitian, hu hungarian, hy armenian,
id indonesian, is icelandic, it italian, ja japanese, jw javanese, ka georgian, kk kazakh,
km khmer, kn kannada, ko korean, la latin, lb luxembourgish letzeburgesch, ln lingala, lo lao,
lt lithuanian, lv latvian, mg malagasy, mi maori, mk macedonian, ml malayalam, mn mongolian,
mr marathi, ms malay, mt maltese, my myanmar burmese, ne nepali, nl dutch flemish, nn nynorsk,
no norwegian, oc occitan, pa punjabi panjabi, pl polish, ps pashto pushto, pt portuguese,
ro romanian moldavian moldovan, ru russian, sa sanskrit, sd sindhi, si sinhala sinhalese,
sk slovak, sl slovenian, sn shona, so somali, sq albanian, sr serbian, su sundanese, sv swedish,
sw swahili, ta tamil, te telugu, tg tajik, th thai, tk turkmen, tl tagalog, tr turkish,
tt tatar, uk ukrainian, ur urdu, uz uzbek, vi vietnamese, yi yiddish, yo yoruba, yue cantonese,
zh chinese mandarin"""
_NAMES: Final = dict(line.strip().partition(" ")[::2] for line in _WHISPER.split(","))
_CODES: Final = {name: code for code, names in _NAMES.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an engine heard, and the code of the language it was in."""

    segments: Iterable[Segment]
    language: str


class SpeechEngine(ABC):
    """One way to recognise speech."""

    name: str
    # The languages it knows, or none where it finds out by itself.
    languages: tuple[str, ...] = ()

    @abstractmethod
    def recognise(self, pcm: Iterator[bytes], language: str | None, deadline: Deadline) -> Spoken:
        """Recognise signed 16-bit mono samples at 16 kHz; the work may go on with each segment.

        Without a `language` it finds out which one is spoken.

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
        sound = b"".join(pcm)
        fields = {
            "model": self._model,
            "response_format": "verbose_json",  # the form that keeps the segments' times
            "timestamp_granularities[]": "segment",
        }
        if language:
            fields["language"] = whisper_language(language) or language.split("-")[0]
        try:
            response = self._post(
                fields, ("sound.ogg", encode(sound, "ogg"), "audio/ogg"), deadline
            )
            if _is_unread(response):
                # whisper.cpp's server reads WAV alone unless it was told that it may convert.
                response = self._post(
                    fields, ("sound.wav", encode(sound, "wav"), "audio/wav"), deadline
                )
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


def whisper_language(tag: str) -> str | None:
    """Whisper's code for a language, `None` for one that it does not know."""
    return next((code for code in _NAMES if same_language(tag, code)), None)


def read_verbose_json(body: bytes, wanted: str | None, sound_s: float) -> Spoken:
    """What an answer in OpenAI's `verbose_json` says was heard.

    Servers that speak the convention differ in it: OpenAI names the language in English, LocalAI
    counts nanoseconds, others leave an end or the segments out. Repaired where that is safe.

    Args:
        body: the answer.
        wanted: the language that was asked for, for where the answer names none.
        sound_s: the length of the sound; nothing is heard after it.

    Raises:
        TranscriptError: `asr_unavailable`, saying what is wrong with the answer.
    """
    try:
        answer = json.loads(body)  # reads the `NaN` that Python's servers write, too
    except (ValueError, RecursionError):
        raise _no_answer("is damaged") from None
    if not isinstance(answer, dict):
        raise _no_answer("is no object")
    listed = answer.get("segments")
    rows = sorted(_rows(listed if isinstance(listed, list) else []), key=lambda row: row[0])
    text = answer.get("text")
    if not rows and isinstance(text, str) and clean(text):
        if sound_s > _WINDOW_S:
            raise _no_answer("has a text without times")
        rows = [(0.0, sound_s, text)]
    return Spoken(as_segments(_in_seconds(rows, sound_s)), _code(answer.get("language"), wanted))


def _rows(listed: list[Any]) -> Iterator[tuple[float, float | None, str]]:
    """(start, end, text) of the segments that say something, in the answer's own unit."""
    for item in listed:
        text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str) or not clean(text):
            continue
        start = number(item.get("start"))
        if start is None:
            raise _no_answer("has segments without times")
        yield start, number(item.get("end")), text


def _in_seconds(
    rows: list[tuple[float, float | None, str]], sound_s: float
) -> Iterator[tuple[float, float, str]]:
    """(start, duration, text) within the sound; one without an end lasts until the next."""
    latest = max((max(start, end or 0.0) for start, end, _ in rows), default=0.0)
    unit = 1e9 if latest >= LATEST_S else 1.0  # nanoseconds
    if latest / unit > sound_s + _WINDOW_S:
        raise _no_answer("has times after the end of the sound")
    starts = [start for start, _, _ in rows]
    for (start, end, text), later in zip(rows, [*starts[1:], sound_s * unit], strict=False):
        known = later if end is None or end < start else end
        # What is heard in the silence that fills the last window ends with the sound.
        ends_s = min(known / unit, max(sound_s, start / unit))
        yield round(start / unit, 3), round(max(0.0, ends_s - start / unit), 3), text


def _no_answer(what: str) -> TranscriptError:
    return TranscriptError("asr_unavailable", f"The speech endpoint's answer {what}.")


def _code(said: object, wanted: str | None) -> str:
    """A language code from what an endpoint says: a code, or a name such as `english`."""
    if isinstance(said, str):
        word = said.strip().lower()
        if code := _CODES.get(word.partition(" ")[0]) or whisper_language(word):
            return code
        if 2 <= len(word) <= 3 and word.isascii() and word.isalpha():
            return word
    return wanted or "und"


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
