"""Conversations as a segmentation by voice does not like them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from model.training.voice_train import filtered, noise, room_response
from stream.block import RATE, Samples
from workers.bench.accuracy.constructed import LEVEL, MARGIN_S, Conversation, Stretch, converse
from workers.bench.accuracy.language import SENTENCES, synthesize
from workers.bench.accuracy.speech import music

Voices = Mapping[str, Sequence[Sequence[Stretch]]]

PITCHES = (1.15, 0.87)  # at which a reader is two more people
CHILD = 1.35  # how much higher than an adult's a child's voice is
WHISPERERS = ("en+whisper", "en+whisperf")  # of espeak-ng


def far(conversation: Conversation) -> Conversation:
    """Heard across a room: 0.4 s of reverberation, noise 10 dB below speech."""
    chance = np.random.default_rng(len(conversation.turns))
    sound = filtered(conversation.samples, room_response(chance, 0.4))
    sound += np.float32(LEVEL * 10**-0.5) * noise(chance, len(sound), ())
    return replace(conversation, samples=sound.astype(np.float32))


def worsened(conversation: Conversation) -> Iterator[tuple[str, Conversation]]:
    """(condition, conversation): as it is, and made harder."""
    yield "as it is", conversation
    yield "8 kHz", replace(conversation, samples=at_pitch(at_pitch(conversation.samples, 2), 0.5))
    below = music(np.random.default_rng(0), len(conversation.samples) + RATE)[: len(conversation.samples)]
    below *= np.float32(LEVEL * 10**-0.5 / below.std())
    yield "music 10 dB below", replace(conversation, samples=conversation.samples + below)
    turns = [replace(turn, start=turn.start / CHILD, end=turn.end / CHILD) for turn in conversation.turns]
    yield "children (pitch x 1.35)", Conversation(at_pitch(conversation.samples, CHILD), turns)


def at_pitch(samples: Samples, factor: float) -> Samples:
    """Samples [n] played faster by a factor, float32 [n / factor]."""
    from scipy.signal import resample_poly

    played: Samples = resample_poly(samples, 100, round(100 * factor)).astype(np.float32)
    return played


def more_people(voices: Voices) -> dict[str, list[list[Stretch]]]:
    """The voices, and each at the pitches of two more people."""
    found = {name: [list(clip) for clip in clips] for name, clips in voices.items()}
    for name, clips in voices.items():
        for pitch in PITCHES:
            found[f"{name} x {pitch}"] = [
                [Stretch(at_pitch(stretch.samples, pitch)) for stretch in clip] for clip in clips
            ]
    return found


def whispered(seconds: float, seed: int) -> Conversation | None:
    """Two people who whisper, synthesized; None where espeak-ng is not installed."""
    if shutil.which("espeak-ng") is None:
        return None
    voices = {}
    for voice in WHISPERERS:
        said = [synthesize(voice, text) for text in SENTENCES["en"] if len(text) > 10]
        loud = [np.flatnonzero(np.abs(each) > 0.02 * np.abs(each).max()) for each in said]
        margin = round(MARGIN_S * RATE)
        voices[voice] = [
            [Stretch(each[max(0, at[0] - margin) : at[-1] + margin])] for each, at in zip(said, loud, strict=True)
        ]
    return converse(voices, 2, 0.0, seconds, seed)
