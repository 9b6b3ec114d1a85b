"""Beside the stages: speech that goes on gets its number early, words so far and interim labels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from model.encoders.transcription import Transcription
from stream.block import Utterance
from stream.bus.tasks import abandon
from workers.session.services import SessionPlan
from workers.session.snapshot import InterimSnapshot
from workers.session.stages.admission import Admission
from workers.session.stages.agreement import Agreement
from workers.session.stages.interims import Interim, Interims, InterimState
from workers.session.stages.labelling import Labelling
from workers.session.stages.overload import DegradationStep
from workers.session.stages.publishing import Publishing
from workers.session.stages.speculation import Discarded
from workers.session.stages.understanding import Understanding
from workers.session.utterance import error_line


class OngoingSpeech:
    """Schedules interims, one at a time. An error costs that interim alone; the utterance still gets its label."""

    def __init__(
        self,
        plan: SessionPlan,
        admission: Admission,
        understanding: Understanding,
        labelling: Labelling,
        publishing: Publishing,
    ) -> None:
        self._admission, self._understanding = admission, understanding
        self._labelling, self._publishing = labelling, publishing
        self._interims = Interims(plan.interim, plan.partials)
        self._task: asyncio.Task[None] | None = None

    def take(self, utterance: Utterance) -> InterimState | None:
        """The utterance has ended; returns its number and what else was known of it while it went on."""
        return self._interims.close(utterance)

    def track(self, ongoing: list[Utterance]) -> bool:
        """Number utterances that have become long, and fail those that turned out to be none; True if any was
        numbered."""
        for state in self._interims.vanished(ongoing):
            speaker = state.utterance.speaker or "unknown"
            self._publishing.publish_failure(state.number, state.utterance, speaker, "it turned out to be no speech")
        long = self._interims.newly_long(ongoing)
        for utterance in long:
            self._interims.reserve(utterance, self._publishing.ledger.begin(utterance, utterance.speaker))
        return bool(long)

    def begin_interim(self, ongoing: list[Utterance]) -> None:
        """Make the interim that has been due for longest, unless one is being made or there is no room."""
        overload = self._admission.overload
        busy = self._admission.is_full or overload.is_shed(DegradationStep.EARLY_WORK)
        if busy or (self._task is not None and not self._task.done()):
            return
        due = self._interims.next_due(ongoing, words=not overload.is_shed(DegradationStep.INTERIM_WORDS))
        if due is not None:
            self._task = asyncio.create_task(self._publish(self._interims.count_interim(due)))

    def stop(self) -> None:
        """Nothing goes on any more."""
        if self._task is not None:
            abandon(self._task)

    def snapshot(self) -> list[InterimSnapshot]:
        """The utterances that have a number."""
        return [
            InterimSnapshot(
                number=state.number, channel=state.utterance.channel, speaker=state.utterance.speaker,
                voice=state.utterance.voice,
                start=state.utterance.start, end=state.utterance.end, count=state.count, next_at=state.next_at,
                next_words=state.next_words, committed=state.agreement.committed, rest=state.agreement.rest,
            )
            for state in self._interims.states
        ]  # fmt: skip

    def restore(self, interims: Iterable[InterimSnapshot]) -> None:
        """Go on with another process's utterances."""
        self._interims.restore(restored(interim) for interim in interims)

    async def _publish(self, interim: Interim) -> None:
        state, utterance = interim.state, interim.utterance
        try:
            known = None if interim.label else state.speaker
            admitted = await self._admission.preview(utterance, state.number, known)
            state.speaker = admitted.speaker
            words = await self._understanding.words_so_far(admitted)
            if words.transcription.text:
                state.words = words
            if self._publishing.events.text(words.transcription, so_far=True) and self._interims.goes_on(utterance):
                state.agreement.add(words.transcription.text)
                words = replace(words, transcription=Transcription(state.agreement.text))
                self._publishing.publish_partial(admitted, words, state.agreement.stable, interim.count)
            if interim.label:
                understood = await self._understanding.understand_so_far(admitted, words)
                label = await self._labelling.preview(admitted, understood, interim.count)
                if label is not None and self._interims.goes_on(utterance):
                    self._publishing.publish_label(label)
        except Discarded:
            return  # it has ended: its own label is on the way
        except Exception as error:
            if interim.label:
                self._publishing.publish_degraded(f"no interim label: {error_line(error)}")


def restored(interim: InterimSnapshot) -> InterimState:
    """An utterance that another process has numbered; its samples come again with the source."""
    samples = np.zeros(0, np.float32)
    so_far = Utterance(
        interim.channel, interim.start, interim.end, samples, interim.end, interim.speaker, voice=interim.voice
    )
    agreement = Agreement(interim.committed, interim.rest)
    return InterimState(interim.number, so_far, interim.count, interim.next_at, interim.next_words, agreement)
