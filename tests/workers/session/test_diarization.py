from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.encoders.speaker import VOICE_ENCODER
from stream.block import RATE, Utterance
from stream.speech.speakers import SpeakerClusters
from workers.session.diarization import Diarization, SpeakerSegment, Stretches, speaker_segments
from workers.session.snapshot import Milestone, VoicesSnapshot

VOICES = np.eye(256, dtype=np.float32)


class Encoder:
    """Hears the loudness of a stretch as its voice: 0.1 is voice 1, 0.2 is voice 2, …"""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return self.stretches(samples, [(0.0, len(samples) / RATE)])[0]

    def stretches(self, samples: np.ndarray, stretches: Stretches) -> np.ndarray:
        sounds = [samples[round(start * RATE) : round(end * RATE)] for start, end in stretches]
        return np.stack([VOICES[round(10 * float(np.abs(sound).mean()))] for sound in sounds])


def said(*parts: tuple[int, float], start: float = 0.0, voice: int | None = None, alone=None) -> Utterance:
    """An utterance of (voice, seconds) one after the other."""
    samples = np.concatenate([np.full(round(seconds * RATE), who / 10, np.float32) for who, seconds in parts])
    end = start + len(samples) / RATE
    return Utterance(0, start, end, samples, end + 0.5, voice=voice, alone=alone)


def segments(utterance: Utterance) -> list[SpeakerSegment]:
    return speaker_segments(Encoder(), utterance.samples, utterance.alone)  # type: ignore[arg-type]


async def names(diarization: Diarization, utterances: Sequence[Utterance]) -> list[str]:
    return [speaker for each in utterances for _, speaker in (await diarization.tell_apart(each))[0]]


def diarize(**options) -> Diarization:
    async def segment(utterance: Utterance) -> list[SpeakerSegment]:
        return segments(utterance)

    return Diarization(SpeakerClusters(**options), segment)


def test_an_utterance_is_cut_where_the_voice_changes() -> None:
    found = segments(said((1, 3), (2, 2), (1, 4)))
    assert [(part.start, part.end) for part in found] == [(0.0, 3.0), (3.0, 5.0), (5.0, 9.0)]
    assert [int(part.voice.argmax()) for part in found] == [1, 2, 1]
    assert [part.seconds for part in found] == [3.0, 2.0, 4.0]


def test_voices_are_compared_where_nobody_else_talks() -> None:
    mixed = said((1, 2), (9, 2), (1, 1), alone=((0.0, 2.0), (4.0, 5.0)))
    (one,) = segments(mixed)
    assert (one.start, one.end, one.seconds, int(one.voice.argmax())) == (0.0, 5.0, 3.0, 1)
    (never_alone,) = segments(said((3, 2), alone=()))
    assert (never_alone.start, never_alone.end, never_alone.seconds) == (0.0, 2.0, 0.0)


async def test_parts_have_their_own_sound_and_one_name_each() -> None:
    whole = said((1, 3), (2, 2), start=10.0)
    ((one, first), (two, second)), merges = await diarize().tell_apart(whole)
    assert (first, second, merges) == ("speaker 1", "speaker 2", [])
    assert (one.start, one.end, two.start, two.end) == (10.0, 13.0, 13.0, 15.0)
    assert np.array_equal(np.concatenate([one.samples, two.samples]), whole.samples)


async def test_who_talks_at_the_same_time_is_another() -> None:
    """Two voices so alike that one after the other they are taken for one."""
    alike = VOICES[0] + 1.8 * VOICES[1], VOICES[0]
    voices = [(voice / np.linalg.norm(voice)).astype(np.float32) for voice in alike]

    async def segment(utterance: Utterance) -> list[SpeakerSegment]:
        return [SpeakerSegment(0.0, 3.0, voices[utterance.voice or 0], 5.0)]

    for start, count in ((3.1, 1), (2.0, 2)):
        utterances = [said((1, 3), voice=0), said((1, 3), start=start, voice=1)]
        assert len(set(await names(Diarization(SpeakerClusters(), segment), utterances))) == count


async def test_another_process_goes_on_with_the_voices() -> None:
    first, second = diarize(), diarize()
    turns = [said((1, 3), voice=0), said((2, 3), start=2.0, voice=1)]
    assert await names(first, turns) == ["speaker 1", "speaker 2"]
    kept = first.snapshot().model_dump_json()
    second.restore(VoicesSnapshot.model_validate_json(kept))
    assert second.snapshot().model_dump_json() == kept and len(first.snapshot().turns) == 2
    later = [said((2, 3), start=40.0, voice=3), said((4, 3), start=50.0, voice=4)]
    assert await names(second, later) == ["speaker 2", "speaker 3"]
    assert [turn.speaker for turn in second.snapshot().turns] == ["speaker 2", "speaker 3"], "old turns are forgotten"


async def test_voices_of_another_encoder_are_learnt_anew() -> None:
    first, second = diarize(), diarize()
    await names(first, [said((1, 3)), said((2, 3), start=4.0)])
    kept = first.snapshot().model_copy(update={"encoder": "another"})
    second.restore(kept)
    assert await names(second, [said((1, 3), start=9.0)]) == ["speaker 3"], "a name is not given twice"
    old = {"position": 1.0, "flushed": False, "next_utterance": 2, "told": [], "words_given": None}
    old |= {"speakers": [{"name": "speaker 1", "total": [0.0, 1.0], "seconds": 2.0, "enrolled": False}], "unnamed": 1}
    milestone = Milestone.model_validate(old)
    assert (milestone.voices.encoder, milestone.voices.unnamed) == ("ge2e", 1)
    assert first.snapshot().encoder == VOICE_ENCODER


async def test_a_guess_knows_who_else_talks() -> None:
    diarization = diarize()
    await names(diarization, [said((1, 3), start=0.0, voice=0), said((2, 3), start=10.0, voice=1)])
    assert await diarization.guess(said((1, 1), start=20.0, voice=2)) == "speaker 1"
    assert await diarization.guess(said((2, 1), start=11.0, voice=2)) == "speaker 1", "speaker 2 talks himself"
