"""A first pass over a whole recording, to find who speaks when before anything is labelled.

A session that plays a recording as fast as it goes need not decide at once: more of what follows is listened to before
a moment is decided, and speakers are clustered when all their utterances are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from model.encoders.prosody import Array
from model.encoders.speaker import SpeakerEncoder
from model.encoders.speaker_activity import SpeakerActivityNet
from stream.block import RATE, Block, Utterance
from stream.speech.clustering import VoicedTurn, name_speakers
from stream.speech.overlap_segmenter import OverlapSegmenter
from stream.speech.turns import MOST_PEOPLE, Turn
from workers.session.diarization import speaker_segments

LATENCY_S = 2.0  # seconds after which a moment is decided; more is no better

NOTHING = np.zeros(0, np.float32)  # instead of the sound of utterances, which would be all of the recording
ListenedTo = Callable[[float | None], None]
"""Told the seconds of a recording that a first pass has listened to, and None when that is over; called in a thread."""


def find_turns(
    blocks: Iterable[Block],
    enrolled: Mapping[str, Array] | None = None,
    people: tuple[int, int] = (1, MOST_PEOPLE),
    listened_to: ListenedTo | None = None,
) -> list[Turn]:
    """The turns of a recording with one channel, in order of their ends.

    enrolled: [256] unit vectors of known voices, by name; people: fewest and most speakers. Raises what reading the
    blocks raises.
    """
    encoder, segmenter = SpeakerEncoder(), OverlapSegmenter(SpeakerActivityNet(), latency=LATENCY_S)
    voiced: list[tuple[VoicedTurn, Utterance]] = []

    def add(ended: list[Utterance]) -> None:
        for utterance in ended:
            parts = speaker_segments(encoder, utterance.samples, utterance.alone)
            for n, part in enumerate(parts):
                end = utterance.end if n == len(parts) - 1 else utterance.start + part.end
                start, local = utterance.start + part.start, utterance.voice or 0
                turn = VoicedTurn(start, end, local, part.voice, part.seconds)
                voiced.append((turn, replace(utterance, samples=NOTHING)))

    for block in blocks:
        if block.dropped:
            add(segmenter.flush(block.dropped))
        add(segmenter.push(block.samples[0]))
        if listened_to is not None:
            listened_to(block.start + block.samples.shape[1] / RATE)
    add(segmenter.flush())
    names = name_speakers([turn for turn, _ in voiced], enrolled, people)
    turns = []
    for (turn, utterance), name in zip(voiced, names, strict=True):
        silenced = [(utterance.start + start, utterance.start + end) for start, end in utterance.silenced]
        onset = utterance.onset if turn.start == utterance.start else None
        turns.append(Turn(turn.start, turn.end, name, tuple(silenced), onset))
    return sorted(turns, key=lambda turn: (turn.end, turn.start))
