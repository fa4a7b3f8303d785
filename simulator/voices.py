"""Speech synthesis by programs of the system, where they are installed: flite and espeak-ng."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from functools import cache

_ESPEAK_VOICES = {"en": "en-us", "pt-BR": "pt-br", "zh-Hans": "cmn", "fr": "fr-fr"}


@dataclass(frozen=True, slots=True)
class Speaker:
    """A program that speaks a language; ``rate`` is in samples a second, mono, 16 bits."""

    program: str
    voice: str
    rate: int

    def say(self, text: str) -> bytes:
        """The line as 16-bit little-endian samples; empty where the program does not give any."""
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            command = (
                ["flite", "-voice", self.voice, "-t", text, "-o", file.name]
                if self.program == "flite"
                else ["espeak-ng", "-v", self.voice, "-s", "145", "-w", file.name, "--stdin"]
            )
            try:
                subprocess.run(command, input=text.encode(), capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                return b""
            data = file.read()
        try:
            with wave.open(io.BytesIO(data)) as sound:
                shape = (sound.getframerate(), sound.getnchannels(), sound.getsampwidth())
                return sound.readframes(sound.getnframes()) if shape == (self.rate, 1, 2) else b""
        except (wave.Error, EOFError):
            return b""


@cache
def speaker_for(lang: str) -> Speaker | None:
    """Who speaks this language here; None where nobody does.

    English is flite's where it is installed: of its voice "slt" a small offline
    recogniser (pocketsphinx) got one word in ten wrong, of espeak-ng's best
    voice four in ten.
    """
    if lang == "en" and shutil.which("flite"):
        return Speaker("flite", "slt", 16_000)
    if shutil.which("espeak-ng"):
        return Speaker("espeak-ng", f"{_ESPEAK_VOICES.get(lang, lang)}+f2", 22_050)
    return None
