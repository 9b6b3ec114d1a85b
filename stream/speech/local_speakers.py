"""Speakers of overlapping windows, joined to local speakers that last from window to window."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from stream.block import RATE, Samples

Activity = NDArray[np.float32]
"""Probability that each speaker of a window talks, float32 [FRAMES, SPEAKERS], in any order of the speakers."""
SpeakerActivity = Callable[[Samples], Activity]
"""A network that hears who talks in a window, float32 [WINDOW] at 16 kHz."""

WINDOW = 10 * RATE
"""Samples of a window."""
FRAMES, SPEAKERS = 589, 3
"""Frames of a window, and the most speakers that it tells apart."""
FRAME = 270
"""Samples from one frame to the next (17 ms)."""
FRAME_S = FRAME / RATE
LAST_CENTRE = WINDOW - (991 // 2 + (FRAMES - 1) * FRAME)
"""Samples from the middle of a window's last frame to its end; a frame sees 991 samples (PyanNet's SincNet)."""


class LocalSpeakers:
    """Speakers of a sliding window, by numbers that they keep as long as the window hears them.

    The network orders the speakers of each window anew. Two neighbouring windows hear the same sound but for a step,
    so a speaker is the one with whom it shares most activity. A frame is decided once the window has moved on by
    `latency`: its activity is the mean over all windows so far that heard it (Coria et al. 2021, arXiv 2109.06483,
    section 3.2, call it delayed aggregation).
    """

    MIN_SHARED = 8.0
    """Frames of shared activity at least for two windows' speakers to be one, or half of the earlier one's frames."""
    MIN_ACTIVITY = 0.5
    """Activity in some frame for a speaker of a window to count."""

    SILENCE: Activity = np.zeros((FRAMES, SPEAKERS), np.float32)
    """Activity of a window in which nobody talks."""

    def __init__(self, step: int, latency: int, first: int = 0) -> None:
        """step: frames by which the window moves on; latency: frames before the window's end that are undecided;
        first: number of the first local speaker."""
        self.next = first
        """Number of the next local speaker."""
        self._step, self._latency = step, latency
        self._before = self.SILENCE
        self._ids: list[int | None] = [None] * SPEAKERS  # local speaker of each column of the window before
        self._sums: dict[int, NDArray[np.float32]] = {}  # activity of the undecided frames, summed over windows
        self._windows = np.zeros(latency, np.float32)  # that have heard each undecided frame

    def push(self, activity: Activity) -> dict[int, NDArray[np.float32]]:
        """Take the next window's activity.

        Returns the activity of each local speaker, float32 [step + latency]: of the frames that are decided now, oldest
        first, and what is known so far of those that are not.
        """
        self._ids = self._match(activity)
        self._before = activity
        total = self._step + self._latency
        more = np.zeros(self._step, np.float32)
        self._windows = np.concatenate([self._windows, more]) + 1
        sums = {number: np.concatenate([each, more]) for number, each in self._sums.items()}
        for column, number in enumerate(self._ids):
            if number is not None:
                latest = activity[FRAMES - total :, column]
                sums[number] = sums[number] + latest if number in sums else latest
        means = {number: (each / self._windows).astype(np.float32) for number, each in sums.items()}
        self._windows = self._windows[self._step :]
        undecided = {number: each[self._step :] for number, each in sums.items()}
        self._sums = {number: each for number, each in undecided.items() if number in self._ids or each.any()}
        return means

    def _match(self, activity: Activity) -> list[int | None]:
        """Local speaker of each column of a window; None for one in which nobody talks."""
        before = self._before[self._step :]
        shared = before.T @ activity[: FRAMES - self._step]
        enough = np.minimum(self.MIN_SHARED, before.sum(0) / 2)  # who has just begun has little to share
        columns = range(SPEAKERS)
        order = max(permutations(columns), key=lambda order: sum(shared[column, order[column]] for column in columns))
        ids: list[int | None] = [None] * SPEAKERS
        for column, now in enumerate(order):
            if shared[column, now] > 0 and shared[column, now] >= enough[column]:
                ids[now] = self._ids[column]
        for column in columns:
            if ids[column] is None and activity[:, column].max() >= self.MIN_ACTIVITY:
                ids[column], self.next = self.next, self.next + 1
        return ids
