"""All channels of a source through their segmenters, with the video frames that belong to each utterance."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

from stream.block import RATE, Block, Utterance, VideoFrame
from stream.speech.segmenter import Segmenter


class Segmentation:
    """Blocks in, utterances out in the order in which they were confirmed."""

    KEPT = 20.0  # seconds of video frames held, longer than the longest utterance with its silence

    def __init__(self, segmenters: list[Segmenter]) -> None:
        self._segmenters = segmenters
        self._frames: deque[VideoFrame] = deque()
        self.position = 0.0
        """Media time up to which blocks have been taken."""

    @property
    def counts(self) -> Counter[str]:
        """What was split or dropped, over all channels."""
        return sum((segmenter.counts for segmenter in self._segmenters), Counter())

    def push(self, block: Block) -> list[Utterance]:
        """Take the next block. Audio that was lost before it closes what is open."""
        done = self.flush(block.dropped) if block.dropped else []
        self._frames.extend(block.frames)
        for segmenter, samples in zip(self._segmenters, block.samples, strict=True):
            done += segmenter.push(samples)
        self.position = block.start + block.samples.shape[1] / RATE
        utterances = self._complete(done)
        while self._frames and self._frames[0].time < self.position - self.KEPT:
            self._frames.popleft()
        return utterances

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close what is open: the source has ended, or goes on after a hole of `lost` seconds."""
        self.position += lost
        return self._complete([u for segmenter in self._segmenters for u in segmenter.flush(lost)])

    def open(self) -> list[Utterance]:
        """The utterances that are going on, each up to now."""
        return [utterance for segmenter in self._segmenters for utterance in segmenter.open()]

    def pausing(self) -> list[Utterance]:
        """The utterances that are over if the silence lasts that has begun after them."""
        return self._complete([utterance for segmenter in self._segmenters for utterance in segmenter.pausing()])

    def _complete(self, utterances: list[Utterance]) -> list[Utterance]:
        ordered = sorted(utterances, key=lambda utterance: (utterance.confirmed, utterance.end))
        return [replace(u, frames=self.shown(u.channel, u.start, u.end)) for u in ordered]

    def shown(self, channel: int, start: float, end: float) -> tuple[VideoFrame, ...]:
        """The pictures of a channel's speaker taken between two moments."""
        return tuple(f for f in self._frames if start <= f.time < end and f.channel in (None, channel))
