"""Segmentation of all channels of a source, with the video frames of each utterance."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

from stream.block import RATE, Block, Utterance, VideoFrame
from stream.speech.crosstalk import CrosstalkGate
from stream.speech.segmenter import Segmenter
from stream.speech.vad import decibels


class Segmentation:
    """Runs one segmenter per channel: takes blocks, returns utterances in the order in which they were confirmed."""

    FRAME_HISTORY_S = 20.0  # more than the longest utterance with its closing silence

    def __init__(self, segmenters: list[Segmenter]) -> None:
        self._segmenters = segmenters
        self._gate = CrosstalkGate(len(segmenters)) if len(segmenters) > 1 else None
        self._frames: deque[VideoFrame] = deque()
        self.position = 0.0
        """Media time of the end of the last block, in seconds."""
        self.loudest_dbfs = -120.0
        """Level of the loudest block so far, in dB relative to full scale."""

    def use(self, segmenters: list[Segmenter]) -> None:
        """Take other segmenters, as many, before the first block."""
        self._segmenters = segmenters

    @property
    def counts(self) -> Counter[str]:
        """Numbers of utterances split, joined and dropped, over all channels; milliseconds of crosstalk."""
        counts = sum((segmenter.counts for segmenter in self._segmenters), Counter[str]())
        if self._gate is not None and self._gate.muted_ms:
            counts["crosstalk_ms"] = self._gate.muted_ms
        return counts

    def push(self, block: Block) -> list[Utterance]:
        """Process the next block; returns the utterances that it completes.

        block.samples: float32 [channels, n] at 16 kHz. Audio lost before the block closes the current utterances.
        Raises ValueError if the number of channels is wrong.
        """
        done = self.flush(block.dropped) if block.dropped else []
        self._frames.extend(block.frames)
        if block.samples.size:
            self.loudest_dbfs = max(self.loudest_dbfs, *(decibels(c - c.mean()) for c in block.samples))
        audible = self._gate.push(block.samples, block.start) if self._gate is not None else block.samples
        for segmenter, samples in zip(self._segmenters, audible, strict=True):
            done += segmenter.push(samples)
        self.position = block.start + block.samples.shape[1] / RATE
        utterances = self._complete(done)
        while self._frames and self._frames[0].time < self.position - self.FRAME_HISTORY_S:
            self._frames.popleft()
        return utterances

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close the current utterances: the source has ended, or continues after a gap of `lost` seconds."""
        self.position += lost
        return self._complete([u for segmenter in self._segmenters for u in segmenter.flush(lost)])

    def ongoing(self) -> list[Utterance]:
        """The current utterances, each up to now."""
        return [utterance for segmenter in self._segmenters for utterance in segmenter.ongoing()]

    def likely_ended(self) -> list[Utterance]:
        """Current utterances that will have ended here if the silence after them lasts."""
        return self._complete([utterance for segmenter in self._segmenters for utterance in segmenter.likely_ended()])

    def _complete(self, utterances: list[Utterance]) -> list[Utterance]:
        ordered = sorted(utterances, key=lambda utterance: (utterance.confirmed, utterance.end))
        return [replace(u, frames=self.frames_between(u.channel, u.start, u.end)) for u in ordered]

    def frames_between(self, channel: int, start: float, end: float) -> tuple[VideoFrame, ...]:
        """Video frames of a channel's speaker with start <= time < end, in seconds on the media clock."""
        return tuple(f for f in self._frames if start <= f.time < end and f.channel in (None, channel))
