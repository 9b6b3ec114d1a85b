"""Utterances from the samples of a channel: cut by a frame VAD, or at annotated turns."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from stream.block import RATE, Samples, Utterance
from stream.speech.endpointing import Endpointer, Endpointing, Span
from stream.speech.turns import Turn
from stream.speech.vad import FrameVad, HighPass, decibels, percentile


class Segmenter(Protocol):
    """Cuts the samples of one channel into utterances."""

    @property
    def counts(self) -> Counter[str]:
        """Numbers of utterances split, joined and dropped."""
        ...

    def push(self, samples: Samples) -> list[Utterance]:
        """Process the next samples, float32 [n] at 16 kHz; returns the utterances that they complete."""
        ...

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close the current utterance; the next samples come `lost` seconds later."""
        ...

    def ongoing(self) -> list[Utterance]:
        """The current utterances, up to now."""
        ...

    def likely_ended(self) -> list[Utterance]:
        """Current utterances that will have ended here if the silence after them lasts, sample by sample the same."""
        ...


class SampleBuffer:
    """The latest samples of a channel, addressed by media time in seconds."""

    def __init__(self) -> None:
        self._samples: Samples = np.zeros(0, np.float32)
        self._first = 0

    @property
    def end(self) -> float:
        """Media time of the end of the last sample, in seconds."""
        return (self._first + len(self._samples)) / RATE

    def append(self, samples: Samples) -> None:
        """Add the next samples, float32 [n] at 16 kHz."""
        self._samples = np.concatenate([self._samples, samples])

    def cut(self, start: float, end: float) -> Samples:
        """Copy of the samples between two times in seconds, float32 [n]; shorter where the buffer does not reach."""
        first, last = (max(0, round(time * RATE) - self._first) for time in (start, end))
        return self._samples[first:last].copy()

    def forget(self, before: float) -> None:
        """Drop the samples before a media time in seconds."""
        drop = min(max(0, round(before * RATE) - self._first), len(self._samples))
        self._samples, self._first = self._samples[drop:], self._first + drop

    def skip(self, seconds: float) -> None:
        """Drop everything and advance the clock by a gap."""
        self._first += len(self._samples) + round(seconds * RATE)
        self._samples = self._samples[:0]

    def quietest(self, start: float, end: float) -> float:
        """Media time of the middle of the quietest 100 ms between two times, which are further apart than that."""
        step = RATE // 50
        samples = self.cut(start, end)
        power = (samples[: len(samples) // step * step].reshape(-1, step) ** 2).mean(1)
        smooth = np.convolve(power, np.ones(5), "valid")
        return start + (int(smooth.argmin()) + 2.5) * step / RATE


class VadSegmenter:
    """Cuts utterances with a VAD."""

    def __init__(self, vad: FrameVad, options: Endpointing, channel: int = 0, speaker: str | None = None) -> None:
        """vad: used for this channel alone, because it has state; channel, speaker: passed on to the utterances."""
        self._vad, self._options, self._channel, self._speaker = vad, options, channel, speaker
        self._step = vad.size / RATE
        self._buffer = SampleBuffer()
        self._endpointer = Endpointer(options, self._step, self._buffer.quietest)
        self._high_pass = HighPass()
        self._rest: Samples = np.zeros(0, np.float32)  # filtered samples that do not make a frame yet
        self._levels: deque[tuple[float, float]] = deque()  # end and level in dB of the frames that `_buffer` has
        self.counts = self._endpointer.counts

    def push(self, samples: Samples) -> list[Utterance]:
        """Process the next samples, float32 [n] at 16 kHz; returns the utterances that they complete."""
        self._buffer.append(samples)
        self._rest = np.concatenate([self._rest, self._high_pass(samples)])
        done = []
        while len(self._rest) >= self._vad.size:
            frame, self._rest = self._rest[: self._vad.size], self._rest[self._vad.size :]
            self._levels.append((self._endpointer.now + self._step, decibels(frame)))
            done += self._complete(self._endpointer.advance(self._vad(frame)))
        if self._endpointer.start is None:
            before = self._endpointer.now - self._options.pre_roll - 2 * self._options.onset - self._step
            self._buffer.forget(before)
            while self._levels and self._levels[0][0] < before:
                self._levels.popleft()
        return done

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close the current utterance; the next samples come `lost` seconds later."""
        self._endpointer.now = self._buffer.end
        done = self._complete(self._endpointer.close())
        self._endpointer.drop_held()
        self._rest = self._rest[:0]
        if lost:
            self._buffer.skip(lost)
            self._levels.clear()
            self._endpointer.skip_to(self._buffer.end)
        return done

    def ongoing(self) -> list[Utterance]:
        """The current utterance up to now, if somebody speaks."""
        span = self._endpointer.current
        if span is None or self._is_steady(span):
            return []
        return [self._utterance(span, self._endpointer.now)]

    def likely_ended(self) -> list[Utterance]:
        """The current utterance, if a silence at least as long as the padding has begun after it."""
        span = self._endpointer.likely_ended
        if span is None or self._is_steady(span):
            return []
        return [self._utterance(span, span.end + span.padding)]

    def _complete(self, span: Span | None) -> list[Utterance]:
        if span is None:
            return []
        if self._is_steady(span):
            self.counts["dropped_noise"] += 1
            return []
        return [self._utterance(span, span.end + span.padding)]

    def _utterance(self, span: Span, last: float) -> Utterance:
        samples = self._buffer.cut(span.start, last)
        confirmed = max(self._endpointer.now, span.end)  # the sum of many frames has a rounding error
        return Utterance(self._channel, span.start, span.end, samples, confirmed, self._speaker, onset=span.onset)

    def _is_steady(self, span: Span) -> bool:
        """True for steady noise: its loud and quiet frames differ by less than `modulation` dB."""
        first, last = span.onset + self._step / 2, span.end + self._step / 2
        levels = sorted(level for at, level in self._levels if first < at <= last)
        if not levels:
            return True
        return percentile(levels, 0.95) - percentile(levels, 0.1) < self._options.modulation


FADE = RATE // 100  # samples over which sound of others is faded out


def silence(samples: Samples, stretches: Sequence[tuple[float, float]]) -> Samples:
    """Samples [n] without those of some stretches, in seconds from the first one."""
    if not stretches or not len(samples):
        return samples
    audible = np.ones(len(samples), np.float32)
    for start, end in stretches:
        audible[max(0, round(start * RATE)) : max(0, round(end * RATE))] = 0.0
    around = np.pad(audible, (FADE // 2, FADE - 1 - FADE // 2), "edge")
    silenced: Samples = samples * np.convolve(around, np.full(FADE, 1 / FADE, np.float32), "valid")
    return silenced


class TurnSegmenter:
    """Cuts utterances at given turns (RTTM, a transcript with speakers, or found in a first pass), also where they
    overlap."""

    def __init__(self, turns: Sequence[Turn], options: Endpointing, given: bool = True) -> None:
        """options: only `shortest` and `longest` apply; given: by the user, who learns how many come too late."""
        self.counts: Counter[str] = Counter()
        self._options, self._given = options, given
        self._buffer = SampleBuffer()
        self._turns = sorted(turns, key=lambda turn: (turn.end, turn.start))

    def push(self, samples: Samples) -> list[Utterance]:
        """Process the next samples, float32 [n] at 16 kHz; returns the turns that they complete."""
        self._buffer.append(samples)
        done = self._cut_until(self._buffer.end)
        self._buffer.forget(min([self._buffer.end] + [turn.start for turn in self._turns]))
        return done

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close the current turns; turns after the end of the audio are counted and dropped."""
        now = self._buffer.end
        beyond = sum(turn.start >= now for turn in self._turns)
        if beyond and self._given:
            self.counts["turns_beyond_end"] += beyond
        self._turns = [replace(turn, end=min(turn.end, now)) for turn in self._turns if turn.start < now]
        return self._cut_until(now)

    def ongoing(self) -> list[Utterance]:
        """The current turns, up to now."""
        now = self._buffer.end
        return [self._utterance(turn, now) for turn in self._turns if turn.start < now]

    def likely_ended(self) -> list[Utterance]:
        """Nothing: the ends are annotated, so there is nothing to guess."""
        return []

    def _cut_until(self, now: float) -> list[Utterance]:
        done, remaining = [], []
        for turn in self._turns:
            while turn.start + self._options.longest <= min(now, turn.end - self._options.shortest):
                latest = turn.start + self._options.longest
                cut = self._buffer.quietest((turn.start + latest) / 2, latest)
                done.append(self._utterance(turn, cut))
                self.counts["split"] += 1
                turn = replace(turn, start=cut, onset=None)
            if turn.end <= now:
                done.append(self._utterance(turn, turn.end))
            else:
                remaining.append(turn)
        self._turns = remaining
        done = [utterance for utterance in done if len(utterance.samples)]
        return sorted(done, key=lambda utterance: utterance.end)

    def _utterance(self, turn: Turn, end: float) -> Utterance:
        end = min(end, self._buffer.end)
        stretches = [(start - turn.start, last - turn.start) for start, last in turn.silenced]
        samples = silence(self._buffer.cut(turn.start, end), stretches)
        confirmed = min(end, self._buffer.end)
        return Utterance(0, turn.start, end, samples, confirmed, turn.speaker, onset=turn.onset)
