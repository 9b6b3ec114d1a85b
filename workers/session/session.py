"""One conversation, from blocks of media to published events:

    segment → admit → understand → label → publish

`push` takes a block through the first three stages, `_label_in_order` each utterance through the last two. Between them
up to `MAX_IN_FLIGHT` utterances are understood at the same time. No Ray in here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from model.fusion.config import FusionConfig
from stream import events
from stream.block import Block, Utterance
from stream.bus.directory import Load
from stream.bus.tasks import abandon, seen
from stream.clock import Clock, MonotonicClock
from stream.speech.segmentation import Segmentation
from stream.speech.segmenter import TurnSegmenter
from stream.speech.speakers import SpeakerClusters
from stream.speech.turns import Turn
from workers.session.diarization import Diarization, SpeakerSegment
from workers.session.event_factory import EventFactory
from workers.session.ledger import UtteranceLedger
from workers.session.services import EventBus, InferenceBackend, ServiceError, SessionPlan, segmenters
from workers.session.snapshot import ResumePoint
from workers.session.stages.admission import MAX_IN_FLIGHT, Admission
from workers.session.stages.labelling import Labelling, Unlabelled
from workers.session.stages.ongoing import OngoingSpeech
from workers.session.stages.overload import DegradationStep, Overload
from workers.session.stages.publishing import Publishing
from workers.session.stages.speculation import SpeculativeResults
from workers.session.stages.understanding import Understanding
from workers.session.utterance import InFlight, LabelledUtterance, UnderstoodUtterance, error_line

HEARTBEAT_S = 2.0


class Session:
    """Takes blocks in order and publishes in order. Every utterance ends in an `emotion` or an `utterance.failed`
    event."""

    def __init__(
        self,
        plan: SessionPlan,
        config: FusionConfig,
        backend: InferenceBackend,
        bus: EventBus,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or MonotonicClock()
        speculative = SpeculativeResults()

        async def segment_speakers(utterance: Utterance) -> list[SpeakerSegment]:
            samples, alone = utterance.samples, utterance.alone
            return await speculative.get_or_start(
                utterance, "speaker_segments", lambda: backend.speaker_segments(samples, alone)
            )

        self.plan, self.backend, self.clock = plan, backend, clock
        self.segmentation = Segmentation(segmenters(plan))
        ledger, factory = UtteranceLedger(config.context, clock), EventFactory(plan, tuple(config.emotions))
        self.publishing = Publishing(factory, ledger, bus, self.segmentation, clock)
        diarization = Diarization(SpeakerClusters(plan.enrolled, plan.people_count), segment_speakers)
        overload = Overload(plan)
        self.admission = Admission(plan, config.context, diarization, speculative, overload, self.publishing, clock)
        self.understanding = Understanding(plan, config, backend, self.admission, speculative, clock)
        self.labelling = Labelling(plan, config, backend, factory, clock)
        self.ongoing = OngoingSpeech(plan, self.admission, self.understanding, self.labelling, self.publishing)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def bus(self) -> EventBus:
        """The session's publisher."""
        return self.publishing.bus

    @property
    def position(self) -> float:
        """Media time of the last block's end, in seconds."""
        return self.segmentation.position

    @property
    def resume_position(self) -> float:
        """Media time up to which another process has published all labels; such blocks go to `skip`."""
        return self.publishing.ledger.resume_position

    def resume(self, point: ResumePoint, replayed: bool) -> float:
        """Go on with what another process began, instead of beginning anew; before `start`.

        replayed: the source is played again from its beginning; else it is live, and what nobody listened to is lost.
        Returns the media time, in seconds, at which the source goes on.
        """
        snapshot, position = point.snapshot, 0.0
        self.labelling.restore(snapshot.memory, point.rows)
        self.understanding.restore(snapshot.memory.languages)
        if snapshot.milestone is not None:
            self.admission.restore(snapshot.milestone)
            if replayed:
                self.ongoing.restore(snapshot.milestone.told)
        if not replayed:
            position = snapshot.position + snapshot.elapsed(self.clock.date())
            self.segmentation.flush(position)
        self.publishing.restore(snapshot, replayed)
        return position

    def use_turns(self, turns: list[Turn]) -> None:
        """Cut at turns that were found in a first pass over the whole recording; before the first block."""
        self.segmentation.use([TurnSegmenter(turns, self.plan.endpointing, given=False)])

    async def start(self) -> None:
        """Announce the session, or that this process resumes it; from here on another process can resume it."""
        await self.publishing.open()
        self._tasks.append(asyncio.create_task(self._label_in_order()))
        await self.bus.beat(self.current_load().model_dump_json())
        self._tasks.append(asyncio.create_task(self._heartbeat()))

    async def load_models(self) -> None:
        """Wait for the backend's models. Raises ServiceError."""
        self.admission.models_loading()
        await self.backend.ready()
        self.admission.models_loaded()
        await self._tell_faults()
        if self.backend.device == "cuda":
            self._tasks.append(asyncio.create_task(self._watch_device()))

    async def push(self, block: Block) -> None:
        """Take the next block; waits while too many utterances are in flight."""
        self.publishing.publish_notices(block)
        await self._admit_and_understand(self.segmentation.push(block))

    def skip(self, block: Block) -> None:
        """Take a block up to `resume_position`, for the segmenters alone."""
        self.segmentation.push(block)

    async def _admit_and_understand(self, ended: list[Utterance], cut_off: bool = False) -> None:
        """Admit utterances that have ended and begin to understand them; then see to speech that goes on.

        cut_off: they have not ended by themselves, the session was stopped.
        """
        last: InFlight | None = None
        for whole in ended:
            known = self.ongoing.take(whole)
            async for admitted in self.admission.admit(whole, None if known is None else known.number):
                # The block's last utterance carries its milestone, so it is handed over at the end. Those before go at
                # once: many in one block would else hold all places, and none would come free.
                if last is not None:
                    self.admission.hand_over(last)
                if cut_off and admitted.utterance.end == whole.end:  # else another voice follows it
                    is_whole = admitted.utterance.start == whole.start
                    so_far = known.words if known is not None and is_whole else None
                    admitted = replace(admitted, cut_off=True, so_far=so_far)
                last = InFlight(admitted, asyncio.create_task(self.understanding.understand(admitted)))
                last.understanding.add_done_callback(seen)  # where the session ends first, nobody asks
        early = not self.admission.overload.is_shed(DegradationStep.EARLY_WORK) and not self.admission.is_full
        if self.plan.speculate and early:
            self.understanding.speculate(self.segmentation.likely_ended())
        going_on = self.segmentation.ongoing()
        numbered = self.ongoing.track(going_on)
        if last is not None:  # the block is taken in, and another process can resume after it
            self.admission.hand_over(replace(last, milestone=self.admission.milestone(self.ongoing.snapshot())))
        if ended or numbered:
            self.publishing.save()
        self.ongoing.begin_interim(going_on)

    async def _label_in_order(self) -> None:
        async for in_flight in self.admission.in_order():
            understood: UnderstoodUtterance | None = None
            outcome: LabelledUtterance | str
            try:
                understood = await in_flight.understanding
                with in_flight.admitted.trace.entered():
                    self.publishing.publish_words(in_flight, understood)
                    delay = self.publishing.publish_delay_s
                    outcome = await self.labelling.label(in_flight.admitted, understood, delay)
            except Unlabelled as error:
                outcome = str(error)
            except Exception as error:
                outcome = error_line(error)
            self.admission.release(in_flight)
            rows = self.labelling.rows_needed + MAX_IN_FLIGHT  # the milestone may be so many labels behind
            self.publishing.publish_outcome(in_flight, understood, outcome, self.labelling.snapshot(), rows)

    async def finish(
        self, reason: str, counts: dict[str, int] | None = None, patience: float = 30.0
    ) -> events.SessionEnded:
        """Publish what was heard and what is owed, then `session.ended`.

        Of an utterance that an interrupted session cuts off, the last words so far count where all of it has none; it
        fails where nobody has recognized any.

        counts: of what happened to the source. Raises ConnectionError when Redis stays away for `patience` seconds;
        what it did not get waits on disk.
        """
        remaining = self.segmentation.flush()
        source_had_ended, self.publishing.ledger.flushed = self.publishing.ledger.flushed, True
        if not source_had_ended:
            await self._admit_and_understand(remaining, cut_off=reason == "interrupted")
        self.ongoing.stop()
        self.admission.close()
        if self._tasks:
            labelling, *_ = self._tasks
            await labelling
        if self.backend.device == "cuda":
            await self._tell_faults()
        for final in await self.labelling.finish():
            self.publishing.publish_label(final)
        if reason == "end of source" and (mismatch := self.admission.transcript_mismatch):
            reason = f"error: {mismatch}"
        self.close()
        return await self.publishing.end(reason, (counts or {}) | self.admission.word_counts, patience)

    def close(self) -> None:
        """Do nothing more: the session has ended, or cannot go on."""
        self.understanding.close()
        self.ongoing.stop()
        for task in self._tasks:
            abandon(task)

    def current_load(self) -> Load:
        """Load of this session, for the heartbeat."""
        return Load(
            position=self.position,
            seconds=self.publishing.seconds,
            in_flight=self.admission.in_flight,
            lag=self.publishing.lag,
            given_up=self.admission.overload.level,
        )

    async def _heartbeat(self) -> None:
        while True:
            await self.clock.sleep(HEARTBEAT_S)
            if change := self.admission.watch_load():
                self.publishing.publish_degraded(change)
            await self.publishing.heartbeat(self.current_load().model_dump_json())

    async def _watch_device(self) -> None:
        while True:
            await self.clock.sleep(HEARTBEAT_S)
            await self._tell_faults()

    async def _tell_faults(self) -> None:
        """Tell of models that have gone back to the CPU, unless nobody answers."""
        with suppress(ServiceError, TimeoutError):
            self.publishing.publish_faults(await asyncio.wait_for(self.backend.faults(), HEARTBEAT_S))
