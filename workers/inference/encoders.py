"""The encoders of an utterance: a recognizer of speech, and a checkpoint's encoders of words, voices, speakers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.encoders.prosody import Array
from model.encoders.spoken_language import languages_of
from model.encoders.text import Line
from stream.block import Samples
from workers.session.diarization import SpeakerSegment, speaker_segments

if TYPE_CHECKING:
    from model.encoders.asr import Guarded


def load_transcriber(model: str) -> Guarded:
    """A recognizer of speech that has run once. model: as `model.encoders.asr.locate` takes it. Raises AsrError."""
    from model.encoders.asr import load

    recognizer = load(model)
    recognizer.warm_up()
    return recognizer


class Encoders:
    """Embeddings of words; prosody, emotion and speaker of a voice. Two methods may run at the same time, but none
    twice."""

    def __init__(self, checkpoint: str, voice: str | None = None) -> None:
        """Load and warm up. voice: folder of the voice encoder; None = the shipped one. Raises CheckpointError."""
        from model.encoders import prosody
        from model.encoders.speaker import SpeakerEncoder
        from model.encoders.text import ContextReader, TextEncoder
        from model.encoders.voice import VoiceEncoder
        from model.fusion.checkpoint import load_config, tuned_of

        config, tuned = load_config(checkpoint), tuned_of(checkpoint)
        self._measure = prosody.measure if prosody.available() else None
        self._text = TextEncoder(config.text, tuned.adapter)
        self._reader = ContextReader(config.reader, tuned.reader) if config.reader and tuned.reader else None
        self._voice, self._speaker = VoiceEncoder(Path(voice)) if voice else VoiceEncoder(), SpeakerEncoder()
        self.embed([Line("a", "warm"), Line("b", "up")])
        self.languages("warm up")
        self.encode_audio(warm := np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32))
        self.speaker_segments(warm)

    def languages(self, text: str) -> dict[str, float]:
        """Probability of each language for a text."""
        return languages_of(text)

    def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        """Embedding [d] float32 of the last line, and the posterior [C] of the expert that reads it; None without."""
        return self._text([lines])[0], None if self._reader is None else self._reader([lines])[0]

    def encode_audio(self, samples: Samples) -> tuple[Array | None, Array | None]:
        """Prosody [7] float32, None where Praat is missing, and the voice encoder's posterior [8]. samples: [n]."""
        return self._measure(samples) if self._measure is not None else None, self._voice(samples)

    def speaker_segments(self, samples: Samples) -> list[SpeakerSegment]:
        """Stretches of an utterance in one voice each, in order and without gaps. samples: [n]."""
        return speaker_segments(self._speaker, samples)
