"""The voice encoder: arousal and expression from the sound of speech.

Its input are states that other encoders have inside: of the speaker encoder's third stage (`model.encoders.speaker`),
and, where Whisper base recognizes the words, of Whisper's encoder (`model.encoders.whisper`). A small network reads
both, another one the former alone. They are trained on acted speech only (RAVDESS, `model.training.voice_train`), so
the expression is an expert's posterior that is pooled with the network's (`model.fusion.experts`), and no modality of
the graph.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from model.encoders.speaker import SpeakerEncoder
from model.encoders.transcription import RATE
from model.encoders.voice_observation import VoiceObservation
from model.errors import InputError

Array = NDArray[np.float32]

SHIPPED = Path(__file__).parent / "weights" / "voice"
WEIGHTS, CARD = "model.safetensors", "config.json"
ALONE, WITH_WORDS = "speaker encoder", "speaker encoder and Whisper"
"""The two networks, by what they read."""
MIN_SPEECH_S, MAX_SPEECH_S = 0.4, 15.0  # of an utterance that is judged; more is cut off


class VoiceError(InputError):
    """A folder without a voice encoder that can be read."""


def loud_part(samples: Array, below: float = 35.0, margin: float = 0.15) -> slice:
    """The part of samples [n] float32 at 16 kHz from the first to the last 20 ms within `below` dB of the loudest, with
    a margin in seconds on both sides."""
    step = RATE // 50
    power = (samples[: len(samples) // step * step].reshape(-1, step) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-below / 10))
    if not len(loud):
        return slice(0, len(samples))
    first, last = round(loud[0] * step - margin * RATE), round((loud[-1] + 1) * step + margin * RATE)
    return slice(max(0, first), min(last, len(samples)))


def trim(samples: Array, margin: float = 0.15) -> Array:
    """The loud part of samples [n] float32 at 16 kHz, with a margin in seconds on both sides."""
    return samples[loud_part(samples, margin=margin)]


def speaker_states(encoder: SpeakerEncoder, samples: Array) -> Array | None:
    """Input [1280] float32 of both networks for an utterance [n] float32 at 16 kHz; None if silent or too short."""
    loud = loud_part(samples)
    if loud.stop - loud.start < MIN_SPEECH_S * RATE or not samples.any():
        return None
    start = loud.start / RATE
    return encoder.states(samples, start, min(loud.stop / RATE, start + MAX_SPEECH_S))


class VoiceEncoder:
    """The two networks, in NumPy: a hidden layer with ReLU, then expression and arousal."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: as `model.training.voice_train.save` writes it, None = the shipped one. Raises VoiceError."""
        folder = folder or SHIPPED
        try:
            self.card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            stored = load_file(folder / WEIGHTS)
            self._weights = {name: stored[name].astype(np.float32) for name in parameter_names()}
        except (OSError, ValueError, KeyError, SafetensorError):
            raise VoiceError(f"{folder}: no voice encoder of this version; undertone train-voice makes one") from None

    def __call__(self, states: Array, recognizer_states: Array | None = None) -> VoiceObservation:
        """Arousal and expression of an utterance.

        states: [1280] float32 of `speaker_states`; recognizer_states: [1024] of `Transcription.states`, None without.
        """
        name = ALONE if recognizer_states is None else WITH_WORDS
        inputs = states if recognizer_states is None else np.concatenate([states, recognizer_states])
        first, first_bias, second, second_bias = (self._weights[f"{name}.{part}"] for part in PARTS)
        outputs = np.maximum(inputs @ first + first_bias, 0) @ second + second_bias
        shares = np.exp(outputs[:-1] - outputs[:-1].max())
        arousal = float(np.tanh(outputs[-1] / 2))  # the probability of strong expression, 0 … 1, on a scale -1 … 1
        return VoiceObservation(arousal, (shares / shares.sum()).astype(np.float32), states=states)


PARTS = ("first", "first_bias", "second", "second_bias")


def parameter_names() -> list[str]:
    """Names of the weights in the file: [inputs, hidden], [hidden], [hidden, 9], [9] for each network."""
    return [f"{name}.{part}" for name in (ALONE, WITH_WORDS) for part in PARTS]
