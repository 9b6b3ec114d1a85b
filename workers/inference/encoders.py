"""The encoders of an utterance: a recognizer of speech, and a checkpoint's encoders of words, voices, speakers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.device import Device, WithFallback
from model.encoders.prosody import Array
from model.encoders.speaker import SpeakerEncoder
from model.encoders.spoken_language import languages_of
from model.encoders.text import Line
from model.encoders.voice import VoiceEncoder, speaker_states
from model.encoders.voice_observation import VoiceObservation
from stream.block import Samples
from workers.session.diarization import SpeakerSegment, Stretches, speaker_segments

if TYPE_CHECKING:
    from model.encoders.asr import Guarded
    from model.encoders.text import ContextReader, TextEncoder


def load_transcriber(model: str, device: Device = "cpu") -> WithFallback[Guarded]:
    """A recognizer of speech that has run once. model: as `model.encoders.asr.locate` takes it. Raises AsrError."""
    from model.encoders.asr import load

    def warm(device: Device) -> Guarded:
        recognizer = load(model, device)
        recognizer.warm_up()
        return recognizer

    return WithFallback("speech recognition", warm, device)


class Encoders:
    """Embeddings of words; prosody, emotion and speaker of a voice. Two methods may run at the same time, but none
    twice. Samples are float32 at 16 kHz with full scale ±1."""

    def __init__(self, checkpoint: str, voice: str | None = None, device: Device = "cpu") -> None:
        """Load and warm up. voice: folder of the voice encoder; None = the shipped one. device: of the encoders of
        words; voices are measured on the CPU. Raises CheckpointError, VoiceError."""
        from model.encoders import prosody
        from model.encoders.sounds import SoundDetector
        from model.encoders.text import ContextReader, TextEncoder
        from model.fusion.checkpoint import load_config, tuned_of

        config, tuned = load_config(checkpoint), tuned_of(checkpoint)

        def of_words(device: Device) -> tuple[TextEncoder, ContextReader | None]:
            text, reader = TextEncoder(config.text, tuned.adapter, device=device), None
            if config.reader and tuned.reader:
                reader = ContextReader(config.reader, tuned.reader, device=device)
            return text, reader

        self._measure = prosody.measure if prosody.available() else None
        self._words = WithFallback("encoders of words", of_words, device)
        self._voice = VoiceEncoder(Path(voice) if voice else None)
        self._sounds = SoundDetector()
        self._speaker = SpeakerEncoder()
        self.embed([Line("a", "warm"), Line("b", "up")])
        self.languages("warm up")
        self.encode_audio(warm := np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32))
        self.speaker_segments(warm)

    @property
    def faults(self) -> list[str]:
        """Models that run on the CPU because the GPU failed, a line each."""
        return [self._words.fault] if self._words.fault else []

    def languages(self, text: str) -> dict[str, float]:
        """Probability of each language for a text."""
        return languages_of(text)

    def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        """Embedding [d] float32 of the last line, and the posterior [C] of the expert that reads it; None without."""

        def encode(models: tuple[TextEncoder, ContextReader | None]) -> tuple[Array, Array | None]:
            text, reader = models
            return text([lines])[0], None if reader is None else reader([lines])[0]

        return self._words(encode)

    def encode_audio(self, samples: Samples) -> tuple[Array | None, VoiceObservation]:
        """Prosody [7] float32, None where Praat is missing, and the sound of the utterance. samples: [n]."""
        prosody = self._measure(samples) if self._measure is not None else None
        states = speaker_states(self._speaker, samples)
        heard = VoiceObservation() if states is None else self._voice(states)
        return prosody, replace(heard, sounds=self._sounds(samples))

    def judge_voice(self, states: Array, recognizer_states: Array) -> VoiceObservation:
        """The sound of an utterance, judged by two encoders: states [1280] of `VoiceObservation`, and [1024] of
        `Transcription`."""
        return self._voice(states, recognizer_states)

    def speaker_segments(self, samples: Samples, alone: Stretches | None = None) -> list[SpeakerSegment]:
        """Stretches of an utterance in one voice each, as `workers.session.diarization.speaker_segments` finds them.

        samples: [n]; alone: stretches in which nobody else speaks, in seconds; None = all of it."""
        return speaker_segments(self._speaker, samples, alone)
