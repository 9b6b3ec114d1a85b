"""Conversations put together from clips of single speakers, so that who speaks when is known by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.encoders.silero import SileroVad
from stream.block import RATE, Samples
from stream.errors import MediaError
from stream.sources.file import read_audio
from stream.speech.turns import Turn

PAUSE_S = 0.3  # longest pause within a turn: readers make longer ones than people who talk to each other
MARGIN_S = 0.1  # sound kept on either side of speech
NOISE_DB = -45.0  # of the room, relative to speech
LEVEL = 0.05  # root mean square of a turn, before the speaker's own gain
GAIN_DB = 4.0  # speakers differ by up to twice this


@dataclass(frozen=True)
class Stretch:
    """Speech of a clip, without longer pauses."""

    samples: Samples
    """[n] float32 at 16 kHz, with `MARGIN_S` on either side."""

    @property
    def seconds(self) -> float:
        """Duration of the speech alone."""
        return len(self.samples) / RATE - 2 * MARGIN_S


@dataclass(frozen=True)
class Conversation:
    """A constructed conversation."""

    samples: Samples
    """[n] float32 at 16 kHz, one channel."""
    turns: list[Turn]

    @property
    def overlap(self) -> float:
        """Share of the time with speech in which two or more speak, 0 … 1."""
        talking = np.zeros((len({turn.speaker for turn in self.turns}), len(self.samples) // 160), bool)
        names = sorted({turn.speaker for turn in self.turns})
        for turn in self.turns:
            talking[names.index(turn.speaker), round(turn.start * 100) : round(turn.end * 100)] = True
        return float((talking.sum(0) > 1).sum() / max(1, talking.any(0).sum()))


def voices_of(folder: Path) -> dict[str, list[list[Stretch]]]:
    """The stretches of each clip SPEAKER-*.flac of a folder, by speaker. Raises MediaError when there are none."""
    voices: dict[str, list[list[Stretch]]] = {}
    for path in sorted(folder.glob("*-*.flac")):
        if stretches := speech_of(read_audio(path)[0]):
            voices.setdefault(path.stem.split("-")[0], []).append(stretches)
    if not voices:
        raise MediaError(f"{folder}: no clip named SPEAKER-*.flac in it")
    return voices


def speech_of(clip: Samples) -> list[Stretch]:
    """Stretches of speech in a clean clip [n], as Silero VAD hears them; pauses up to `PAUSE_S` are part of one."""
    vad = SileroVad()
    count = len(clip) // vad.size
    speech = [vad(clip[n * vad.size : (n + 1) * vad.size]) >= 0.5 for n in range(count)]
    edges = np.flatnonzero(np.diff([0, *speech, 0])) * vad.size / RATE
    joined: list[tuple[float, float]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if joined and start - joined[-1][1] <= PAUSE_S:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    spans = [(start - MARGIN_S, end + MARGIN_S) for start, end in joined if end - start >= 0.3 and start >= MARGIN_S]
    return [Stretch(clip[round(start * RATE) : round(end * RATE)]) for start, end in spans]


def converse(
    voices: Mapping[str, Sequence[Sequence[Stretch]]], people: int, overlap: float, seconds: float, seed: int
) -> Conversation:
    """A conversation of so many people.

    A turn is one speaker's consecutive stretches of a clip, 2.5 s in the median, at most about 9 s. A speaker who goes
    on has paused for more than a second; another follows after 0.4 s in the mean, or, as long as less than the share
    `overlap` of the speech overlaps, begins before the turn before has ended: every second time with a short
    interjection that leaves the floor to the other.
    """
    chance = np.random.default_rng(seed)
    names = [str(name) for name in chance.permutation(sorted(voices))[:people]]
    gains = {name: 10 ** (chance.uniform(-GAIN_DB, GAIN_DB) / 20) for name in names}
    sound = np.zeros(round((seconds + 15) * RATE), np.float32)
    turns: list[Turn] = []
    floor, last, shared = 0.5, "", 0.0  # end of the turn that has the floor, its speaker, seconds of overlap
    while floor < seconds - 1:
        unheard = [name for name in names if name not in {turn.speaker for turn in turns}]
        others = [name for name in names if name != last]
        goes_on = bool(turns) and (not others or (not unheard and chance.random() < 0.15))
        name = last if goes_on else str(chance.choice(unheard or others))
        spoken = sum(turn.end - turn.start for turn in turns)
        cuts_in = bool(turns) and not goes_on and shared < overlap * (spoken - shared)
        interjects = cuts_in and chance.random() < 0.5
        length = chance.uniform(0.4, 1.2) if interjects else min(9.0, 2.5 * np.exp(chance.normal(0, 0.7)))
        clips = voices[name]
        if interjects:  # the shortest phrases, one alone
            clips = [[min(clip, key=lambda stretch: stretch.seconds)] for clip in clips]
        turn = phrases(clips[int(chance.integers(len(clips)))], length, chance)
        spoken_s = len(turn) / RATE - 2 * MARGIN_S
        if goes_on:
            start = floor + 1.0 + chance.gamma(2, 0.25)
        elif cuts_in:
            start = floor - chance.uniform(0.3, 1.5) - (spoken_s if interjects else 0.0)
        else:
            start = floor + chance.gamma(2, 0.2)
        own = max((turn.end for turn in turns if turn.speaker == name), default=0.0)
        start = max(start, own + 0.5, MARGIN_S, turns[-1].start if turns else 0.0)
        first = round((start - MARGIN_S) * RATE)
        turn = turn[: max(0, len(sound) - first)]
        sound[first : first + len(turn)] += _at_level(turn, gains[name])
        end = start + spoken_s
        shared += max(0.0, min(floor, end) - start)
        turns.append(Turn(start, end, name))
        if end > floor:
            floor, last = end, name
    sound = sound[: round(seconds * RATE)]
    sound += chance.normal(0, LEVEL * 10 ** (NOISE_DB / 20), len(sound)).astype(np.float32)
    turns = [Turn(turn.start, min(turn.end, seconds), turn.speaker) for turn in turns if turn.start < seconds]
    return Conversation(sound, sorted(turns, key=lambda turn: turn.start))


def read_out(
    voices: Mapping[str, Sequence[Sequence[Stretch]]], lines: Sequence[tuple[str, float]], seed: int
) -> Conversation:
    """A conversation with given turns, one after another: (voice, about so many seconds), from random places of clips.

    The gaps between them are those of `converse`.
    """
    chance = np.random.default_rng(seed)
    gains = {name: 10 ** (chance.uniform(-GAIN_DB, GAIN_DB) / 20) for name in sorted({name for name, _ in lines})}
    parts: list[Samples] = []
    turns: list[Turn] = []
    end = 0.5
    for name, seconds in lines:
        clips = voices[name]
        turn = phrases(clips[int(chance.integers(len(clips)))], seconds, chance)
        pause = chance.gamma(2, 0.2) + (1.0 if turns and turns[-1].speaker == name else 0.0)
        parts += [np.zeros(round(pause * RATE), np.float32), _at_level(turn, gains[name])]
        start = end + pause + MARGIN_S
        turns.append(Turn(start, start + len(turn) / RATE - 2 * MARGIN_S, name))
        end += pause + len(turn) / RATE
    sound = np.concatenate([np.zeros(RATE // 2, np.float32), *parts, np.zeros(RATE, np.float32)])
    sound += chance.normal(0, LEVEL * 10 ** (NOISE_DB / 20), len(sound)).astype(np.float32)
    return Conversation(sound, turns)


def phrases(clip: Sequence[Stretch], seconds: float, chance: np.random.Generator) -> Samples:
    """Samples [n] float32 of consecutive stretches of a clip from a random place, of about so many seconds and one
    stretch at least: phrases are left whole, for half a word is no end of a turn."""
    first = int(chance.integers(len(clip)))
    chosen = [clip[first]]
    for stretch in clip[first + 1 :]:
        if sum(each.seconds + PAUSE_S for each in (*chosen, stretch)) > seconds:
            break
        chosen.append(stretch)
    # Two margins make a pause of 0.2 s.
    return np.concatenate([_faded(stretch.samples) for stretch in chosen])


def _at_level(samples: Samples, gain: float) -> Samples:
    level: Samples = samples * np.float32(gain * LEVEL / max(1e-6, np.sqrt((samples**2).mean())))
    return level


def _faded(samples: Samples) -> Samples:
    ramp = np.minimum(1, np.arange(len(samples)) / (MARGIN_S * RATE / 2)).astype(np.float32)
    faded: Samples = samples * ramp * ramp[::-1]
    return faded
