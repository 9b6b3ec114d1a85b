"""Back-pressure of a live session: what it gives up, step by step, when the machine does not keep up."""

from __future__ import annotations

from enum import Enum

from workers.session.services import SessionPlan

BUDGET_S = 3.0  # an utterance may be in flight for so long
RECOVERED_S = 1.0  # below, there is room again
RECOVERY_S = 8.0  # of room before a step is taken back


class DegradationStep(Enum):
    """Steps in the order in which they are taken; the value is the text of the `degraded` event."""

    INTERIM_WORDS = "words while somebody talks come with interim labels alone"
    PICTURES = "one of four pictures is looked at"
    EARLY_WORK = "no interim labels, and nothing begun before an utterance's end"
    WORDS = "words and pictures are left out, the voice alone is heard"
    UTTERANCES = "utterances that find no room fail"


class Overload:
    """Watches how long utterances are in flight, and decides which steps are taken."""

    def __init__(self, plan: SessionPlan) -> None:
        """A recording waits: nothing is given up for it."""
        possible = {
            DegradationStep.INTERIM_WORDS: plan.partials,
            DegradationStep.PICTURES: bool(plan.encoders.get("visual")),
            DegradationStep.EARLY_WORK: True,
            DegradationStep.WORDS: bool(plan.encoders.get("audio")) and len(plan.modalities) > 1,
            DegradationStep.UTTERANCES: True,
        }
        self._steps = [step for step in DegradationStep if plan.live and possible[step]]
        self.level = 0
        """Number of steps that are taken."""
        self._room_since: float | None = None

    def watch(self, now: float, oldest: float | None) -> str | None:
        """Take or give back at most one step; to be called every other second.

        now, oldest: seconds on the session's clock, oldest the admission of the first utterance in flight (None: there
        is none). Returns the change as text for an event, or None.
        """
        age = 0.0 if oldest is None else now - oldest
        if age > BUDGET_S:
            self._room_since = None
            if self.level < len(self._steps):
                self.level += 1
                return f"overloaded, so {self._steps[self.level - 1].value}"
        elif age < RECOVERED_S:
            self._room_since = now if self._room_since is None else self._room_since
            if self.level and now - self._room_since >= RECOVERY_S:
                self.level, self._room_since = self.level - 1, None
                return f"there is room again; no more: {self._steps[self.level].value}"
        else:
            self._room_since = None
        return None

    def is_shed(self, step: DegradationStep) -> bool:
        """True while a step is taken."""
        return step in self._steps[: self.level]
