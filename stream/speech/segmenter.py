"""Utterances from samples: a state machine with hysteresis over a frame VAD, or cuts at annotated turns."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream.block import RATE, Samples, Utterance
from stream.speech.turns import Turn
from stream.speech.vad import FrameVad, HighPass, decibels, percentile


@dataclass(frozen=True)
class Endpointing:
    """Parameters of utterance detection. All times in seconds."""

    start_threshold: float = 0.5
    stop_threshold: float = 0.35
    """Minimum speech probability of a speech frame: `start_threshold` in silence, `stop_threshold` during speech."""
    onset: float = 0.1
    """Duration of speech within the last 2 x onset that starts an utterance."""
    end_silence: float = 0.5
    """Silence that ends an utterance."""
    pre_roll: float = 0.3
    """Audio included before the onset, so that the first syllable is complete."""
    padding: float = 0.2
    """Audio included after the end."""
    shortest: float = 0.25
    """Minimum duration: a shorter utterance is joined to speech that follows within `max_join_gap`, else dropped and
    counted."""
    max_join_gap: float = 1.0
    """Maximum silence between a short utterance and the speech it is joined to."""
    longest: float = 15.0
    """Maximum duration: a longer utterance is split at the quietest point of its second half."""
    modulation: float = 6.0
    """Minimum difference between loud and quiet frames in dB; audio that varies less is steady noise, dropped and
    counted."""


class Segmenter(Protocol):
    """Cuts the samples of one channel into utterances."""

    counts: Counter[str]
    """Numbers of utterances split, joined and dropped."""

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
    """Cuts utterances with a VAD. States: idle -> speech -> (held, if too short) -> idle."""

    def __init__(self, vad: FrameVad, options: Endpointing, channel: int = 0, speaker: str | None = None) -> None:
        """vad: used for this channel alone, because it has state; channel, speaker: passed on to the utterances."""
        self.counts: Counter[str] = Counter()
        self._vad, self._options, self._channel, self._speaker = vad, options, channel, speaker
        self._step = vad.size / RATE
        self._buffer = SampleBuffer()
        self._high_pass = HighPass()
        self._rest: Samples = np.zeros(0, np.float32)  # filtered samples that do not make a frame yet
        self._levels: deque[tuple[float, float]] = deque()  # end and level in dB of the frames that `_buffer` has
        self._now = 0.0  # media time of the end of the last frame processed
        self._recent: deque[bool] = deque(maxlen=max(1, round(2 * options.onset / self._step)))
        self._speaking = False
        self._start: float | None = None  # start of the current utterance with its pre-roll; None when idle
        self._onset = self._end = 0.0  # start and end of the speech in it
        self._last_end = 0.0  # end of the utterance before, whose audio is not used twice

    def push(self, samples: Samples) -> list[Utterance]:
        """Process the next samples, float32 [n] at 16 kHz; returns the utterances that they complete."""
        self._buffer.append(samples)
        self._rest = np.concatenate([self._rest, self._high_pass(samples)])
        done = []
        while len(self._rest) >= self._vad.size:
            frame, self._rest = self._rest[: self._vad.size], self._rest[self._vad.size :]
            self._levels.append((self._now + self._step, decibels(frame)))
            done += self._advance(self._vad(frame))
        if self._start is None:
            before = self._now - self._options.pre_roll - 2 * self._options.onset - self._step
            self._buffer.forget(before)
            while self._levels and self._levels[0][0] < before:
                self._levels.popleft()
        return done

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close the current utterance; the next samples come `lost` seconds later."""
        self._now = self._buffer.end
        done = self._close() if self._start is not None else []
        self._drop_held()
        self._recent.clear()
        self._rest = self._rest[:0]
        if lost:
            self._buffer.skip(lost)
            self._levels.clear()
            self._now = self._last_end = self._buffer.end
        return done

    def ongoing(self) -> list[Utterance]:
        """The current utterance up to now, if somebody speaks."""
        if not self._speaking or self._start is None or self._is_steady(self._onset, self._end):
            return []
        samples = self._buffer.cut(self._start, self._now)
        return [self._utterance(self._start, self._end, samples, self._now)]

    def likely_ended(self) -> list[Utterance]:
        """The current utterance, if a silence at least as long as the padding has begun after it."""
        options = self._options
        silent = self._speaking and self._now - self._end >= options.padding
        if not silent or self._start is None or self._end - self._onset < options.shortest:
            return []
        if self._is_steady(self._onset, self._end):
            return []
        samples = self._buffer.cut(self._start, self._end + options.padding)
        return [self._utterance(self._start, self._end, samples, self._now)]

    def _advance(self, probability: float) -> list[Utterance]:
        """Advance the state machine by one frame."""
        options = self._options
        speech = probability >= (options.stop_threshold if self._speaking else options.start_threshold)
        self._now += self._step
        self._recent.append(speech)
        if not self._speaking:
            if sum(self._recent) * self._step >= options.onset - 1e-9:
                self._begin()
            elif self._start is not None and self._now - self._end > options.max_join_gap:
                self._drop_held()
            return []
        assert self._start is not None
        if speech:
            self._end = self._now
        if self._now - self._end >= options.end_silence:
            return self._close()
        if self._now - self._start >= options.longest:
            return self._split()
        return []

    def _begin(self) -> None:
        self._speaking = True
        self._end = self._now
        if self._start is not None:
            self.counts["joined"] += 1
        else:
            first = list(self._recent).index(True)
            self._onset = self._now - (len(self._recent) - first) * self._step
            self._start = max(self._last_end, self._onset - self._options.pre_roll, 0.0)

    def _close(self) -> list[Utterance]:
        self._speaking = False
        self._recent.clear()
        if self._end - self._onset < self._options.shortest:
            return []  # held: more speech may follow
        return self._emit(self._end)

    def _split(self) -> list[Utterance]:
        assert self._start is not None
        cut = self._buffer.quietest((self._start + self._now) / 2, self._now)
        done = self._emit(cut, padding=0.0)
        self._start = self._onset = cut
        self.counts["split"] += 1
        return done

    def _emit(self, end: float, padding: float | None = None) -> list[Utterance]:
        assert self._start is not None
        tail = self._options.padding if padding is None else padding
        start, self._start, self._last_end = self._start, None, end
        if self._is_steady(self._onset, end):
            self.counts["dropped_noise"] += 1
            return []
        samples = self._buffer.cut(start, end + tail)
        confirmed = max(self._now, end)  # the sum of many frames may exceed the buffer's end by a rounding error
        return [self._utterance(start, end, samples, confirmed)]

    def _utterance(self, start: float, end: float, samples: Samples, confirmed: float) -> Utterance:
        return Utterance(self._channel, start, end, samples, confirmed, self._speaker, onset=self._onset)

    def _is_steady(self, start: float, end: float) -> bool:
        """True for steady noise: its loud and quiet frames differ by less than `modulation` dB."""
        first, last = start + self._step / 2, end + self._step / 2
        levels = sorted(level for at, level in self._levels if first < at <= last)
        if not levels:
            return True
        return percentile(levels, 0.95) - percentile(levels, 0.1) < self._options.modulation

    def _drop_held(self) -> None:
        if self._start is not None:
            self.counts["dropped_short"] += 1
            self._start = None


class TurnSegmenter:
    """Cuts utterances at annotated turns (RTTM, or a transcript with speakers), including overlapping ones."""

    def __init__(self, turns: Sequence[Turn], options: Endpointing) -> None:
        """options: only `shortest` and `longest` apply."""
        self.counts: Counter[str] = Counter()
        self._options = options
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
        if beyond:
            self.counts["turns_beyond_end"] += beyond
        self._turns = [Turn(t.start, min(t.end, now), t.speaker) for t in self._turns if t.start < now]
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
                turn = Turn(cut, turn.end, turn.speaker)
            if turn.end <= now:
                done.append(self._utterance(turn, turn.end))
            else:
                remaining.append(turn)
        self._turns = remaining
        done = [utterance for utterance in done if len(utterance.samples)]
        return sorted(done, key=lambda utterance: utterance.end)

    def _utterance(self, turn: Turn, end: float) -> Utterance:
        end = min(end, self._buffer.end)
        samples = self._buffer.cut(turn.start, end)
        return Utterance(0, turn.start, end, samples, min(end, self._buffer.end), turn.speaker)
