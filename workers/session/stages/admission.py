"""Stage 2, admit: cut by speaker, number, wait for one of `MAX_IN_FLIGHT` places."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator

from stream.block import Utterance
from stream.clock import Clock
from workers.session.diarization import Diarization
from workers.session.services import SessionPlan
from workers.session.snapshot import InterimSnapshot, Milestone
from workers.session.stages.given_words import GivenWords
from workers.session.stages.overload import DegradationStep, Overload
from workers.session.stages.publishing import Publishing
from workers.session.stages.speculation import SpeculativeResults
from workers.session.tracing import UtteranceTrace
from workers.session.utterance import AdmittedUtterance, InFlight, SpokenLine, error_line

MAX_IN_FLIGHT = 8  # utterances between admit and label; beyond that `admit` waits


class Admission:
    """Cuts ended utterances by speaker, numbers them, and holds up the source while too many are in flight."""

    def __init__(
        self,
        plan: SessionPlan,
        context: int,
        diarization: Diarization,
        speculative: SpeculativeResults,
        overload: Overload,
        publishing: Publishing,
        clock: Clock,
    ) -> None:
        """context: number of earlier utterances that the text encoders read along."""
        self.overload = overload
        self._models_loaded_at = 0.0  # on the clock; infinite until then, as no utterance is late before
        self._session, self._diarization, self._speculative = plan.session, diarization, speculative
        self._given, self._publishing, self._clock = GivenWords(plan), publishing, clock
        self._lines: deque[SpokenLine] = deque(maxlen=max(context, MAX_IN_FLIGHT))
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._admitted_at: deque[float] = deque()
        self._in_flight: asyncio.Queue[InFlight | None] = asyncio.Queue()  # bounded by the places

    @property
    def context(self) -> tuple[SpokenLine, ...]:
        """Words of the last utterances, in order."""
        return tuple(self._lines)

    @property
    def is_full(self) -> bool:
        return self._places.locked()

    @property
    def in_flight(self) -> int:
        """Number of utterances that hold a place."""
        return len(self._admitted_at)

    @property
    def oldest(self) -> float | None:
        """Time on the clock since which the first utterance in flight could have been understood; None: there is none,
        or models are still being loaded."""
        since = max(self._admitted_at[0], self._models_loaded_at) if self._admitted_at else math.inf
        return None if math.isinf(since) else since

    def models_loading(self) -> None:
        """Models are being loaded: no utterance is late until they are there."""
        self._models_loaded_at = math.inf

    def models_loaded(self) -> None:
        """From now on utterances can be understood."""
        self._models_loaded_at = self._clock.now()

    def loading_since(self, moment: float) -> float:
        """Seconds after a moment on the clock for which models were still being loaded."""
        return max(0.0, min(self._models_loaded_at, self._clock.now()) - moment)

    def watch_load(self) -> str | None:
        """Give something up or take it back, if it is time; returns the change as text for an event."""
        return self.overload.watch(self._clock.now(), self.oldest)

    async def admit(self, whole: Utterance, reserved: int | None) -> AsyncIterator[AdmittedUtterance]:
        """Utterances of one speaker each, as soon as each has a place. Those that find none under overload fail.

        reserved: number that the utterance was given while it went on.
        """
        self._speculative.confirm(whole)
        parts = await self._by_speaker(whole)
        if len(parts) > 1:
            self._speculative.done(whole)  # results about its parts are others
        for utterance, speaker in parts:
            number = self._publishing.ledger.begin(utterance, speaker) if reserved is None else reserved
            reserved = None
            if self.is_full and self.overload.is_shed(DegradationStep.UTTERANCES):
                self._publishing.publish_failure(number, utterance, speaker, "overloaded: too many others were in work")
                continue
            admitted_at, context = self._clock.now(), self.context
            await self._places.acquire()
            self._admitted_at.append(admitted_at)
            line = SpokenLine(speaker)
            self._lines.append(line)
            given = self._given.take(utterance, speaker)
            trace = UtteranceTrace.begin(self._session, number)
            yield AdmittedUtterance(number, utterance, speaker, admitted_at, line, context, given, trace)

    async def preview(self, utterance: Utterance, number: int = -1, speaker: str | None = None) -> AdmittedUtterance:
        """An utterance that goes on or may have ended, as it would be admitted. It takes no place and no given words.

        speaker: None = as its voice sounds so far.
        """
        speaker = speaker or await self._diarization.guess(utterance)
        given = self._given.preview(utterance, speaker)
        line = SpokenLine(speaker)
        return AdmittedUtterance(number, utterance, speaker, self._clock.now(), line, self.context, given)

    def hand_over(self, utterance: InFlight) -> None:
        """Queue an admitted utterance for its label."""
        self._in_flight.put_nowait(utterance)

    async def in_order(self) -> AsyncIterator[InFlight]:
        """Utterances that were handed over, until `close`."""
        while (utterance := await self._in_flight.get()) is not None:
            yield utterance

    def release(self, utterance: InFlight) -> None:
        """Free its place."""
        utterance.admitted.trace.end()
        self._admitted_at.popleft()
        self._places.release()

    def close(self) -> None:
        """Nothing more is admitted."""
        self._in_flight.put_nowait(None)

    @property
    def word_counts(self) -> dict[str, int]:
        """Words of the given transcript, for the session's last event."""
        return self._given.counts

    @property
    def transcript_mismatch(self) -> str | None:
        """An error where no word of the given transcript fell on speech."""
        return self._given.mismatch

    def milestone(self, interims: list[InterimSnapshot]) -> Milestone:
        """State for a process that resumes after all that is admitted. interims: of speech that goes on."""
        return Milestone(
            position=self._publishing.position,
            flushed=self._publishing.ledger.flushed,
            next_utterance=self._publishing.ledger.next_utterance,
            voices=self._diarization.snapshot(),
            told=interims,
            words_given=self._given.snapshot(),
        )

    def restore(self, milestone: Milestone) -> None:
        """Go on after what another process admitted."""
        self._lines.extend(SpokenLine(speaker, words) for speaker, words in milestone.spoken)
        self._diarization.restore(milestone.voices)
        self._given.restore(milestone.words_given)

    async def _by_speaker(self, whole: Utterance) -> list[tuple[Utterance, str]]:
        try:
            parts, merged = await self._diarization.tell_apart(whole)
        except Exception as error:
            self._publishing.publish_degraded(f"the speaker is not known: {error_line(error)}")
            return [(whole, self._lines[-1].speaker if self._lines else "speaker 1")]
        for speaker, into in merged:
            self._publishing.publish_merge(speaker, into)
        return parts
