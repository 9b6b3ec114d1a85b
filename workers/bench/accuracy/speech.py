"""Transcribed recordings, clean and degraded, and sounds without words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.encoders.transcription import Samples
from model.training.voice_train import filtered, noise, room_response, with_noise
from stream.block import RATE
from stream.sources.file import FileSource, read_audio
from stream.speech.endpointing import Endpointing
from stream.speech.segmenter import VadSegmenter
from stream.speech.transcript import read_transcript
from stream.speech.vad import FrameVad
from workers.bench import DEMO
from workers.research.compose import SENTENCES

JFK = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
RAVDESS_CLIPS, SEED = 60, 0  # of RAVDESS, chosen at random
WORDLESS_MINUTES = 5  # of each kind of sound


@dataclass(frozen=True)
class Spoken:
    """A set of recordings, each from a microphone of its own."""

    title: str
    recordings: list[tuple[Samples, str]]
    """Samples [n] float32 at 16 kHz, and their words."""
    worsened: bool = False
    """Degraded by a telephone line, noise or a room."""

    @property
    def seconds(self) -> float:
        return sum(len(samples) for samples, _ in self.recordings) / RATE


def spoken(data: Path) -> Iterator[Spoken]:
    """The sets whose files exist. data: a folder with the layout of $UNDERTONE_DATA. Raises MediaError,
    AnnotationError."""
    clips = data / "librispeech"
    if (words := clips / "transcripts.tsv").exists():
        lines = [line.split("\t") for line in words.read_text(encoding="utf-8").splitlines()]
        yield Spoken(
            "LibriSpeech, 24 clips read aloud",
            [(_mono(clips / f"{name}.flac"), words) for name, words in lines if name != "jfk"],
        )
    if (speech := clips / "jfk.flac").exists():
        yield Spoken("a speech (JFK)", [(_mono(speech), JFK)])
    if (call := data / "conversations" / "telephone" / "sample.wav").exists():
        cues = read_transcript(call.with_suffix(".stm"), "sample").cues
        yield Spoken("a telephone call", [(_mono(call), " ".join(cue.text for cue in cues))])
    acted = sorted((data / "ravdess").glob("Actor_*/03-01-*.flac"))
    if acted:
        chosen = sorted(np.random.default_rng(SEED).permutation(len(acted))[:RAVDESS_CLIPS])
        pairs = [(_mono(acted[n]), SENTENCES[int(acted[n].stem.split("-")[4])]) for n in chosen]
        yield Spoken(f"RAVDESS, {RAVDESS_CLIPS} acted clips", pairs)
    if DEMO.exists():
        yield from _demo()


def _demo() -> Iterator[Spoken]:
    """The demo conversation, one channel for each of its speakers, clean and degraded."""
    cues = read_transcript(DEMO.with_suffix(".stm"), DEMO.stem).cues
    channels = np.concatenate([block.samples for block in FileSource(DEMO, "split")], 1)
    names = list(dict.fromkeys(cue.speaker for cue in cues))
    words = [" ".join(cue.text for cue in cues if cue.speaker == name) for name in names]
    rng = np.random.default_rng(SEED)
    response = room_response(rng, 0.5)
    worsened: dict[str, Callable[[Samples], Samples]] = {
        "": lambda samples: samples,
        ", telephone (8 kHz)": partial(filtered, telephone=True),
        ", noise at 10 dB": lambda samples: with_noise(rng, samples, 10.0),
        ", room of 0.5 s": partial(filtered, response=response),
    }
    for condition, worsen in worsened.items():
        yield Spoken(
            f"demo conversation{condition}",
            [(worsen(samples).astype(np.float32), text) for samples, text in zip(channels, words, strict=True)],
            bool(condition),
        )


def utterances(samples: Samples, vad: FrameVad) -> list[Samples]:
    """Utterances [m] that the live segmenter cuts out of samples [n] float32 at 16 kHz."""
    segmenter = VadSegmenter(vad, Endpointing())
    return [u.samples for u in (*segmenter.push(samples), *segmenter.flush())]


def wordless(data: Path) -> Iterator[tuple[str, Samples]]:
    """(title, samples [n] float32 at 16 kHz) of `WORDLESS_MINUTES` each. Babble needs LibriSpeech's readers in
    `data`."""
    rng, length = np.random.default_rng(SEED), WORDLESS_MINUTES * 60 * RATE
    yield "silence", rng.normal(0, 1e-4, length).astype(np.float32)
    changing = np.repeat(10 ** rng.uniform(-1.5, 0, length // (2 * RATE)), 2 * RATE)  # else the segmenter drops it
    yield "noise", (0.3 * changing * noise(rng, length, ())).astype(np.float32)
    yield "music", music(rng, length)
    clips = sorted((data / "librispeech").glob("*-*.flac"))
    if clips:
        yield "babble of 12", _babble(rng, [_mono(clip) for clip in clips], length)


def music(rng: np.random.Generator, length: int) -> Samples:
    """Chords that change each second, with a beat: float32 [length], whole seconds."""
    time = np.arange(RATE) / RATE
    parts = []
    for _ in range(length // RATE):
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        chord = sum(
            np.sin(2 * np.pi * root * 2 ** (step / 12) * overtone * time) / overtone
            for step in (0, rng.choice([3, 4]), 7)
            for overtone in range(1, 6)
        )
        parts.append(0.05 * chord * (0.3 + np.exp(-8 * (time % 0.5))))
    sound: Samples = np.concatenate(parts).astype(np.float32)
    return sound


def _babble(rng: np.random.Generator, clips: list[Samples], length: int, voices: int = 12) -> Samples:
    """Many speakers at once, all equally loud."""
    total = np.zeros(length, np.float32)
    for _ in range(voices):
        start = 0
        while start < length:
            clip = clips[rng.integers(len(clips))]
            part = clip[: length - start]
            total[start : start + len(part)] += part / max(float(np.sqrt((clip**2).mean())), 1e-4)
            start += len(part)
    babble: Samples = 0.03 * total
    return babble


def _mono(path: Path) -> Samples:
    samples: Samples = read_audio(path)[0]
    return samples
