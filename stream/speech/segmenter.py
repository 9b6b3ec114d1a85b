"""Utterances out of samples: a state machine with hysteresis over a frame VAD, or the cuts of turns that were given."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream.block import RATE, Samples, Utterance
from stream.speech.turns import Turn
from stream.speech.vad import FrameVad


@dataclass(frozen=True)
class Endpointing:
    """When an utterance begins and ends. All times in seconds."""

    start_threshold: float = 0.5
    stop_threshold: float = 0.35
    """Speech probabilities at which a frame begins to count as speech, and ceases to."""
    onset: float = 0.1
    """Speech within the last 2 x onset that opens an utterance."""
    end_silence: float = 0.5
    """Silence that closes it."""
    pre_roll: float = 0.3
    """Kept before the onset, so that the first syllable is whole."""
    padding: float = 0.2
    """Kept after the end."""
    shortest: float = 0.25
    """A shorter one is joined to speech that follows within `join` of its end, else dropped and counted."""
    join: float = 1.0
    longest: float = 15.0
    """A longer one is split at the quietest point of its second half."""
    modulation: float = 6.0
    """dB between loud and quiet frames; what varies less is steady noise, dropped and counted."""


class Segmenter(Protocol):
    """One channel's samples in, finished utterances out."""

    counts: Counter[str]

    def push(self, samples: Samples) -> list[Utterance]: ...

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        """Close what is open; the next samples come `lost` seconds later."""
        ...

    def open(self) -> list[Utterance]:
        """What is being said, up to now."""
        ...

    def pausing(self) -> list[Utterance]:
        """What will have been said if the silence that has begun lasts; the same, sample by sample."""
        ...


class SampleBuffer:
    """The last stretch of a channel, addressed by media time."""

    def __init__(self) -> None:
        self._samples: Samples = np.zeros(0, np.float32)
        self._first = 0

    @property
    def end(self) -> float:
        return (self._first + len(self._samples)) / RATE

    def append(self, samples: Samples) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def cut(self, start: float, end: float) -> Samples:
        first, last = (max(0, round(time * RATE) - self._first) for time in (start, end))
        return self._samples[first:last].copy()

    def forget(self, before: float) -> None:
        drop = min(max(0, round(before * RATE) - self._first), len(self._samples))
        self._samples, self._first = self._samples[drop:], self._first + drop

    def skip(self, seconds: float) -> None:
        """Leave a hole: everything held is forgotten."""
        self._first += len(self._samples) + round(seconds * RATE)
        self._samples = self._samples[:0]

    def quietest(self, start: float, end: float) -> float:
        """The middle of the quietest 100 ms."""
        step = RATE // 50
        samples = self.cut(start, end)
        power = (samples[: len(samples) // step * step].reshape(-1, step) ** 2).mean(1)
        smooth = np.convolve(power, np.ones(5), "valid")
        return start + (int(smooth.argmin()) + 2.5) * step / RATE if len(smooth) else end


class VadSegmenter:
    """The state machine: idle -> speech -> (held, if too short) -> idle."""

    def __init__(self, vad: FrameVad, options: Endpointing, channel: int = 0, speaker: str | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._vad, self._options, self._channel, self._speaker = vad, options, channel, speaker
        self._step = vad.size / RATE
        self._tape = SampleBuffer()
        self._rest: Samples = np.zeros(0, np.float32)
        self._now = 0.0  # media time of the last frame judged
        self._recent: deque[bool] = deque(maxlen=max(1, round(2 * options.onset / self._step)))
        self._speaking = False
        self._start: float | None = None  # of the audio kept; None when idle
        self._onset = self._end = 0.0  # of the speech in it
        self._last_end = 0.0  # of the utterance before, whose audio is not used twice

    def push(self, samples: Samples) -> list[Utterance]:
        self._tape.append(samples)
        self._rest = np.concatenate([self._rest, samples])
        done = []
        while len(self._rest) >= self._vad.size:
            frame, self._rest = self._rest[: self._vad.size], self._rest[self._vad.size :]
            done += self._judge(self._vad(frame))
        if self._start is None:
            self._tape.forget(self._now - self._options.pre_roll - 2 * self._options.onset - self._step)
        return done

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        self._now = self._tape.end
        done = self._close() if self._start is not None else []
        self._drop_held()
        self._recent.clear()
        self._rest = self._rest[:0]
        if lost:
            self._tape.skip(lost)
            self._now = self._last_end = self._tape.end
        return done

    def open(self) -> list[Utterance]:
        if not self._speaking or self._start is None or self._steady(self._tape.cut(self._onset, self._end)):
            return []
        samples = self._tape.cut(self._start, self._now)
        return [self._utterance(self._start, self._end, samples, self._now)]

    def pausing(self) -> list[Utterance]:
        options = self._options
        silent = self._speaking and self._now - self._end >= options.padding
        if not silent or self._start is None or self._end - self._onset < options.shortest:
            return []
        if self._steady(self._tape.cut(self._onset, self._end)):
            return []
        samples = self._tape.cut(self._start, self._end + options.padding)
        return [self._utterance(self._start, self._end, samples, self._now)]

    def _judge(self, probability: float) -> list[Utterance]:
        options = self._options
        speech = probability >= (options.stop_threshold if self._speaking else options.start_threshold)
        self._now += self._step
        self._recent.append(speech)
        if not self._speaking:
            if sum(self._recent) * self._step >= options.onset - 1e-9:
                self._open()
            elif self._start is not None and self._now - self._end > options.join:
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

    def _open(self) -> None:
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
            return []  # held: speech may follow
        return self._emit(self._end)

    def _split(self) -> list[Utterance]:
        assert self._start is not None
        cut = self._tape.quietest((self._start + self._now) / 2, self._now)
        done = self._emit(cut, padding=0.0)
        self._start = self._onset = cut
        self.counts["split"] += 1
        return done

    def _emit(self, end: float, padding: float | None = None) -> list[Utterance]:
        assert self._start is not None
        tail = self._options.padding if padding is None else padding
        start, self._start, self._last_end = self._start, None, end
        if self._steady(self._tape.cut(self._onset, end)):
            self.counts["dropped_noise"] += 1
            return []
        samples = self._tape.cut(start, end + tail)
        confirmed = max(self._now, end)  # the sum of many frames may run ahead of the tape by a rounding error
        return [self._utterance(start, end, samples, confirmed)]

    def _utterance(self, start: float, end: float, samples: Samples, confirmed: float) -> Utterance:
        return Utterance(self._channel, start, end, samples, confirmed, self._speaker, onset=self._onset)

    def _steady(self, samples: Samples) -> bool:
        frames = samples[: len(samples) // self._vad.size * self._vad.size].reshape(-1, self._vad.size)
        if not len(frames):
            return True
        low, high = np.percentile(10 * np.log10((frames**2).mean(1) + 1e-12), [10, 95])
        return bool(high - low < self._options.modulation)

    def _drop_held(self) -> None:
        if self._start is not None:
            self.counts["dropped_short"] += 1
            self._start = None


class TurnSegmenter:
    """Utterances where somebody else (RTTM, a transcript with speakers) says they are; overlapping ones included."""

    def __init__(self, turns: Sequence[Turn], options: Endpointing) -> None:
        self.counts: Counter[str] = Counter()
        self._options = options
        self._tape = SampleBuffer()
        self._turns = sorted(turns, key=lambda turn: (turn.end, turn.start))

    def push(self, samples: Samples) -> list[Utterance]:
        self._tape.append(samples)
        done = self._take(self._tape.end)
        self._tape.forget(min([self._tape.end] + [turn.start for turn in self._turns]))
        return done

    def flush(self, lost: float = 0.0) -> list[Utterance]:
        now = self._tape.end
        beyond = sum(turn.start >= now for turn in self._turns)
        if beyond:
            self.counts["turns_beyond_end"] += beyond
        self._turns = [Turn(t.start, min(t.end, now), t.speaker) for t in self._turns if t.start < now]
        return self._take(now)

    def open(self) -> list[Utterance]:
        now = self._tape.end
        return [self._utterance(turn, now) for turn in self._turns if turn.start < now]

    def pausing(self) -> list[Utterance]:
        return []  # the ends are given, nobody waits for them

    def _take(self, now: float) -> list[Utterance]:
        done, waiting = [], []
        for turn in self._turns:
            while turn.start + self._options.longest <= min(now, turn.end - self._options.shortest):
                latest = turn.start + self._options.longest
                cut = self._tape.quietest((turn.start + latest) / 2, latest)
                done.append(self._utterance(turn, cut))
                self.counts["split"] += 1
                turn = Turn(cut, turn.end, turn.speaker)
            if turn.end <= now:
                done.append(self._utterance(turn, turn.end))
            else:
                waiting.append(turn)
        self._turns = waiting
        done = [utterance for utterance in done if len(utterance.samples)]
        return sorted(done, key=lambda utterance: utterance.end)

    def _utterance(self, turn: Turn, end: float) -> Utterance:
        end = min(end, self._tape.end)
        samples = self._tape.cut(turn.start, end)
        return Utterance(0, turn.start, end, samples, min(end, self._tape.end), turn.speaker)
