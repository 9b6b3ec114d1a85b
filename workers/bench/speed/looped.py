"""A looped recording: as a source of any length, and as a file with its transcript."""

from __future__ import annotations

import csv
import math
import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stream.block import BLOCK_SAMPLES, RATE, Block, Samples
from stream.sources.file import FileSource
from stream.speech.transcript import AFTER_S, Transcript, read_transcript
from stream.speech.turns import Cue


class LoopedSource:
    """Implementation of `stream.sources.base.Source` that repeats a recording up to `seconds`."""

    live = False

    def __init__(self, recording: Path, seconds: float) -> None:
        """Read the recording. Raises MediaError."""
        source = FileSource(recording)
        self._samples = np.concatenate([block.samples for block in source], 1)
        self._blocks = round(seconds * RATE / BLOCK_SAMPLES)
        self.name, self.channels, self.split = source.name, source.channels, source.split
        self.video, self.repaired = False, 0
        self.ended_early: str | None = None
        self._stopped = False

    @property
    def period(self) -> float:
        """Length of the recording in seconds."""
        return float(self._samples.shape[1] / RATE)

    def counts(self) -> dict[str, int]:
        return {"repaired_samples": self.repaired}

    def stop(self) -> None:
        self._stopped = True

    def __iter__(self) -> Iterator[Block]:
        step = np.arange(BLOCK_SAMPLES)
        for number in range(self._blocks):
            if self._stopped:
                return
            first = number * BLOCK_SAMPLES
            yield Block(number, first / RATE, self._samples.take(first + step, axis=1, mode="wrap"))


class LoopedTranscript(Transcript):
    """Transcript of a looped recording; only words around the present position are in memory."""

    def __init__(self, cues: Sequence[Cue], period: float) -> None:
        super().__init__(list(cues))
        self._period, self._loops = period, 1

    def consume(
        self,
        start: float,
        end: float,
        channel: int | None = None,
        speaker: str | None = None,
        exact: bool = False,
        peek: bool = False,
    ) -> str:
        while end + AFTER_S > self._loops * self._period:
            shift = self._loops * self._period
            coming = Transcript(_shifted(self.cues, shift))
            self._unused = [word for word in self._unused if word.middle > shift - self._period] + coming._unused
            self.words += coming.words
            self._loops += 1
        return super().consume(start, end, channel, speaker, exact, peek)


def looped_file(recording: Path, seconds: float, folder: Path, one_microphone: bool = False) -> Path:
    """Write looped.wav, of at least `seconds`, and looped.csv if there is an STM beside the recording; returns the WAV.

    one_microphone: all channels are mixed into one, and the words do not tell their speakers. Raises MediaError and
    AnnotationError.
    """
    once, path = FileSource(recording, "mix" if one_microphone else "auto"), folder / "looped.wav"
    samples = np.concatenate([block.samples for block in once], 1)
    period = samples.shape[1] / RATE
    loops = math.ceil(seconds / period)
    write_wav(path, samples, loops)
    words = recording.with_suffix(".stm")
    if words.is_file():
        cues = read_transcript(words, recording.stem).cues
        with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["start", "end", "text", "speaker", "channel"][: 3 if one_microphone else 5])
            for cue in (cue for loop in range(loops) for cue in _shifted(cues, loop * period)):
                channel = "" if cue.channel is None else cue.channel + 1
                row = [f"{cue.start:.3f}", f"{cue.end:.3f}", cue.text, cue.speaker, channel]
                writer.writerow(row[: 3 if one_microphone else 5])
    return path


def write_wav(path: Path, samples: Samples, times: int = 1) -> None:
    """Write samples [channels, n] float32 at 16 kHz as 16-bit numbers, so many times over."""
    with wave.open(str(path), "wb") as file:
        file.setparams((len(samples), 2, RATE, 0, "NONE", ""))
        for _ in range(times):
            file.writeframes((samples.T.clip(-1, 1) * 32767).astype("<i2").tobytes())


def _shifted(cues: Sequence[Cue], by: float) -> list[Cue]:
    return [replace(cue, start=cue.start + by, end=cue.end + by) for cue in cues]
