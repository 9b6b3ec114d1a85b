"""What a session gives up, step by step, when the machine does not keep up, and takes back when it does again."""

from __future__ import annotations

from workers.session.services import SessionPlan

BUDGET_S = 3.0  # seconds that an utterance may be in work
RECOVERED_S = 1.0  # seconds below which there is room again
RECOVERY_S = 8.0  # seconds of room before something is taken back

PARTIALS = "words while somebody talks come with interim labels alone"
PICTURES = "one of four pictures is looked at"
AHEAD = "no interim labels, and nothing begun before an utterance's end"
WORDS = "words and pictures are left out, the voice alone is heard"
SHED = "utterances that find no room fail"


class Overload:
    """Watches how long utterances are in work, and says what is given up."""

    def __init__(self, plan: SessionPlan) -> None:
        """A recording waits: nothing is given up for it."""
        steps: list[str] = []
        if plan.live:
            steps += [PARTIALS] if plan.partials else []
            steps += [PICTURES] if plan.encoders.get("visual") else []
            steps += [AHEAD]
            steps += [WORDS] if plan.encoders.get("audio") and len(plan.modalities) > 1 else []
            steps += [SHED]
        self._steps = steps
        self.level = 0
        self._easy_since: float | None = None

    def watch(self, now: float, oldest: float | None) -> str | None:
        """Look at the clock every other second. oldest: since when the first of the utterances in work has been; None
        when there is none. Returns what changes, for all to know; at most one step at a time."""
        age = 0.0 if oldest is None else now - oldest
        if age > BUDGET_S:
            self._easy_since = None
            if self.level < len(self._steps):
                self.level += 1
                return f"overloaded, so {self._steps[self.level - 1]}"
        elif age < RECOVERED_S:
            self._easy_since = now if self._easy_since is None else self._easy_since
            if self.level and now - self._easy_since >= RECOVERY_S:
                self.level, self._easy_since = self.level - 1, None
                return f"there is room again; no more: {self._steps[self.level]}"
        else:
            self._easy_since = None
        return None

    def without(self, step: str) -> bool:
        """Whether a step is taken at the moment."""
        return step in self._steps[: self.level]
