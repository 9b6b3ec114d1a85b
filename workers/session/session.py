"""One conversation from blocks of media to published events: segmenting, order, publishing. No Ray in here."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from contextlib import suppress
from datetime import UTC, datetime

from redis.exceptions import RedisError

from model.encoders.transcription import Transcription
from model.fusion.config import FusionConfig
from stream import events
from stream.block import Block, Utterance
from stream.bus.directory import Load
from stream.bus.publisher import Bus
from stream.speech.segmentation import Segmentation
from workers.session.interims import Interim, Interims
from workers.session.labelling import Labelling, Unlabelled
from workers.session.ledger import UtteranceLedger
from workers.session.masking import Masker
from workers.session.overload import AHEAD, PARTIALS, SHED, Overload
from workers.session.services import InferenceBackend, SessionPlan, segmenters
from workers.session.snapshot import GraphRowRecord, InterimSnapshot, Milestone, ResumePoint, SpeakerSnapshot
from workers.session.speculation import Discarded
from workers.session.tracing import UtteranceTrace
from workers.session.understanding import Understanding
from workers.session.utterance import UtteranceInProgress, lost, one_line

HEARTBEAT_S = 2.0  # seconds between signs of life
SNAPSHOT_INTERVAL_S = (
    10.0  # seconds without an utterance after which another process would no longer know how far we are
)
MAX_IN_FLIGHT = 8  # utterances whose words or embeddings are being made; then the source has to wait


def context(config: FusionConfig) -> int:
    """How many earlier utterances the text encoders read along."""
    return max(config.text.context, config.reader.context if config.reader else 0)


class Session:
    """Takes blocks in order, keeps up to `MAX_IN_FLIGHT` utterances in work at once, publishes in order.

    Every utterance ends in an `emotion` or an `utterance.failed` event.
    """

    def __init__(self, plan: SessionPlan, config: FusionConfig, helpers: InferenceBackend, bus: Bus) -> None:
        self.plan, self.helpers, self.bus, self._config = plan, helpers, bus, config
        self._mask = Masker(plan.people) if plan.mask else None
        self._segmentation = Segmentation(segmenters(plan))
        self._overload = Overload(plan)
        self._understanding = Understanding(plan, config, helpers, self._overload)
        self._labelling = Labelling(plan, config, helpers)
        self._book = UtteranceLedger(context(config))
        self._spoken: deque[UtteranceInProgress] = deque(maxlen=max(context(config), MAX_IN_FLIGHT))
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._since: deque[float] = deque()  # when each of those in work was heard
        self._queue: asyncio.Queue[tuple[UtteranceInProgress, asyncio.Task[None]] | None] = asyncio.Queue()
        self._publisher: asyncio.Task[None] | None = None
        self._interims = Interims(plan.interim, plan.partials)
        self._interim: asyncio.Task[None] | None = None
        self._lag = self._lag_announced = 0.0
        self._given_up = 0
        self._begun = time.monotonic()
        self._heart: asyncio.Task[None] | None = None
        self._break: str | None = None  # what is told of it when another process began the session
        self._flushed = False
        self.behind = 0.0
        """Media time up to which a source that is played anew needs no labels: another process has told them."""
        self.loaded_at = 0.0
        """On the machine's clock, when the models were loaded; infinite until then. Nothing is late before."""

    @property
    def position(self) -> float:
        """Media time heard, in seconds."""
        return self._segmentation.position

    async def start(self) -> None:
        """Announce the session, or that this process goes on with it; from here on another process can do so."""
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self._break is None:
            await self.bus.register(started)
            told: list[events.Base] = [self._announcement(started)]
        else:
            with suppress(RedisError, OSError):  # it is registered already, and will be again when Redis is back
                await self.bus.register(started)
            gone = list(self._book.unfinished.values())
            for each in gone:
                self._book.fail(each.number)
            told = [self._noticed(events.Degraded, reason=self._break), *(lost(self.plan.session, u) for u in gone)]
        self.bus.publish(*told, state=self._snapshot())
        self._publisher = asyncio.create_task(self._publish_in_order())
        self._begun = time.monotonic()
        await self.bus.beat(self.load().model_dump_json())
        self._heart = asyncio.create_task(self._beat())

    def _announcement(self, time: str) -> events.SessionStarted:
        plan = self.plan
        return events.SessionStarted(
            id=f"{plan.session}:started",
            session=plan.session,
            time=time,
            sources=list(plan.sources),
            channels="per speaker" if plan.speakers == "channel" else "mixed",
            speakers=plan.speakers,  # type: ignore[arg-type]  # validated by pydantic
            encoders=plan.encoders,
            checkpoint=plan.checkpoint,
            emotions=list(self._config.emotions),
            consent=plan.consent,
            redacted=plan.redact,
            masked=plan.mask and not plan.redact,
            recorded=plan.recorded,
            kept=plan.kept,
        )

    def take_up(self, left: ResumePoint, replayed: bool) -> float:
        """Go on with what another process began, instead of beginning anew; before `start`.

        replayed: the source is played again from its beginning, and handed to `catch_up` until it is at `behind`; else
        it is live, and what nobody listened to is lost. Returns the media time at which the source goes on.
        """
        before, milestone = left.snapshot, left.snapshot.milestone
        self._book.take_up(before, replayed)
        self._labelling.restore(before.memory, left.rows)
        self._understanding.languages.restore(before.memory.languages)
        if milestone is not None:
            known = [
                UtteranceInProgress.known(self.plan.session, speaker, words) for speaker, words in milestone.spoken
            ]
            self._spoken.extend(known)
            clusters = self._understanding.voices.clusters
            clusters.speakers, clusters.unnamed = [each.known() for each in milestone.speakers], milestone.unnamed
        if not replayed:
            at = before.position + before.elapsed()
            self._segmentation.flush(at)
            self._book.dropped += at - before.position
            self._break = f"another process goes on; nobody listened for {at - before.position:.1f} s"
            return at
        if milestone is not None:
            self.behind, self._flushed = milestone.position, milestone.flushed
            self._interims.restore(told.going_on() for told in milestone.told)
            if self.plan.transcript is not None and milestone.words_given is not None:
                self.plan.transcript.restore(*milestone.words_given)
        self._break = f"another process goes on from {self.behind:.1f} s"
        return 0.0

    def load(self) -> Load:
        """How it does."""
        seconds = time.monotonic() - self._begun
        return Load(
            position=self.position,
            seconds=seconds,
            in_flight=len(self._since),
            lag=self._lag,
            given_up=self._overload.level,
        )

    @property
    def oldest(self) -> float | None:
        """On the machine's clock, since when the first of the utterances in work has been, with all models there; None
        when there is none."""
        since = max(self._since[0], self.loaded_at) if self._since else math.inf
        return None if math.isinf(since) else since

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if change := self._overload.watch(time.monotonic(), self.oldest):
                self._notice(events.Degraded, reason=change)
            await self.bus.beat(self.load().model_dump_json())
            if self._book.age > SNAPSHOT_INTERVAL_S and not self.bus.is_spooling:
                self.bus.save_state(self._snapshot())

    async def push(self, block: Block) -> None:
        """Take the next block; waits while too much is in flight."""
        if block.notice:
            self._notice(events.Degraded, reason=block.notice)
        if block.dropped:
            self._book.dropped += block.dropped
            self._notice(events.Degraded, reason=f"{block.dropped:.1f} s of audio lost before it could be read")
        self._watch_lag(block.lag)
        if (given_up := self.bus.dropped_events) > self._given_up and not self.bus.is_spooling:
            lost, self._given_up = given_up - self._given_up, given_up
            self._notice(events.Degraded, reason=f"{lost} events were given up while Redis was away")
        await self._admit(self._segmentation.push(block))

    def catch_up(self, block: Block) -> None:
        """Take a block that another process has seen to: only to hear where its utterances end."""
        self._segmentation.push(block)

    async def finish(
        self, reason: str, counts: dict[str, int] | None = None, patience: float = 30.0
    ) -> events.SessionEnded:
        """Publish what was heard and what is owed, then `session.ended`.

        Raises ConnectionError when Redis stays away for `patience` seconds; what it did not get waits on disk.
        """
        remaining, flushed = self._segmentation.flush(), self._flushed
        self._flushed = True
        if not flushed:
            await self._admit(remaining)
        if self._interim is not None:
            self._interim.cancel()  # nothing goes on any more
        self._queue.put_nowait(None)
        if self._publisher is not None:
            await self._publisher
        for final in await self._labelling.finish():
            self.bus.publish(final)
        every = self._book.counts + self._segmentation.counts + Counter(counts or {})
        if self.plan.transcript is not None:
            every["transcript_words"] = self.plan.transcript.words
            every["transcript_words_unspoken"] = self.plan.transcript.unused
        if self._book.dropped:
            every["lost_audio_ms"] = round(1000 * self._book.dropped)
        if self.bus.dropped_events:
            every["events_given_up"] = self.bus.dropped_events
        ended = events.SessionEnded(
            id=f"{self.plan.session}:ended",
            session=self.plan.session,
            reason=self._verdict(reason),
            duration=self.position,
            utterances=self._book.next_utterance,
            failed=self._book.failed,
            counts=dict(every),
        )
        self.bus.publish(ended)
        self.close()
        if not await self.bus.aclose(patience):
            raise ConnectionError("Redis stayed away; the last events wait on this disk (undertone spool --send)")
        return ended

    def close(self) -> None:
        """Do nothing more: it has ended, or cannot go on."""
        self._understanding.close()
        for task in (self._heart, self._publisher, self._interim):
            if task is not None:
                task.cancel()

    def _verdict(self, reason: str) -> str:
        """The reason for the end, or what is wrong with a session that ran to its end and says nothing."""
        transcript = self.plan.transcript
        if reason != "end of source":
            return reason
        if transcript is not None and transcript.words == transcript.unused:
            return f"error: the transcript does not match: none of its {transcript.words} words falls on speech"
        return reason if self._book.next_utterance else "error: no speech was found"

    async def _admit(self, utterances: list[Utterance]) -> None:
        """Take utterances that have ended into work; then see to those that go on."""
        pending, changed = None, bool(utterances)
        for whole in utterances:
            reserved = self._interims.close(whole)
            self._understanding.ahead.confirm(whole)
            try:
                spoken, merged = await self._understanding.voices.tell_apart(whole)
            except Exception as error:
                self._notice(events.Degraded, reason=f"the speaker is not known: {one_line(error)}")
                spoken, merged = [(whole, self._spoken[-1].speaker if self._spoken else "speaker 1")], []
            for who, into in merged:
                event_id = self._notice_id()
                self.bus.publish(events.SpeakerMerged(id=event_id, session=self.plan.session, speaker=who, into=into))
            if len(spoken) > 1:
                self._understanding.ahead.done(whole)  # its parts are others
            for utterance, speaker in spoken:
                number, reserved = self._book.begin(utterance, speaker) if reserved is None else reserved, None
                pending = self._pending(utterance, speaker, number)
                if self._room.locked() and self._overload.without(SHED):
                    self._book.fail(number)
                    self.bus.publish(pending.failed("overloaded: too many others were in work"))
                    continue
                await self._room.acquire()
                self._since.append(pending.heard_at)
                pending.trace = UtteranceTrace.begin(self.plan.session, number)
                self._spoken.append(pending)
                pending.said = self._understanding.given_words(utterance, speaker)  # here: words are given out in order
                self._queue.put_nowait((pending, asyncio.create_task(self._understanding.understand(pending))))
        if self.plan.speculate and not self._room.locked() and not self._overload.without(AHEAD):
            self._understanding.begin_ahead(self._segmentation.likely_ended(), self._spoken)
        going_on = self._segmentation.ongoing()
        for number, heard in self._interims.vanished(going_on):
            self._book.fail(number)
            vanished = self._pending(heard, heard.speaker or "unknown", number)
            self.bus.publish(vanished.failed("it turned out to be no speech"))
        for utterance in self._interims.grown(going_on):
            self._interims.reserve(utterance, self._book.begin(utterance, utterance.speaker))
            changed = True
        if pending is not None:
            pending.milestone = self._milestone()
        if changed:
            self.bus.save_state(self._snapshot())
        busy = self._room.locked() or self._telling() or self._overload.without(AHEAD)
        due = None if busy else self._interims.due(going_on, words=not self._overload.without(PARTIALS))
        if due is not None:
            self._interim = asyncio.create_task(self._tell_interim(self._interims.tell(due)))

    def _pending(self, utterance: Utterance, speaker: str, number: int) -> UtteranceInProgress:
        before = tuple(self._spoken)
        heard_at, redact = time.monotonic(), self.plan.redact
        return UtteranceInProgress(self.plan.session, number, utterance, speaker, heard_at, redact, self._mask, before)

    def _milestone(self) -> Milestone:
        clusters = self._understanding.voices.clusters
        return Milestone(
            position=self.position,
            flushed=self._flushed,
            next_utterance=self._book.next_utterance,
            speakers=[SpeakerSnapshot.of(speaker) for speaker in clusters.speakers],
            unnamed=clusters.unnamed,
            told=[InterimSnapshot.of(told) for told in self._interims.told],
            words_given=None if self.plan.transcript is None else self.plan.transcript.snapshot(),
        )

    def _snapshot(self) -> str:
        return self._book.snapshot(self.position, self._segmentation.counts)

    async def _publish_in_order(self) -> None:
        while (entry := await self._queue.get()) is not None:
            pending, task = entry
            row: GraphRowRecord | None = None
            told: list[events.Base] = []
            try:
                await task
                with pending.trace.entered():
                    self.bus.publish(pending.heard())
                    row, final = await self._labelling.label(pending, self.bus.delay)
                told = [row.told] if final is None else [row.told, final]
                if pending.broken:
                    self._notice(events.Degraded, reason=f"utterance {pending.number}: {'; '.join(pending.broken)}")
            except Exception as error:
                reason = str(error) if isinstance(error, Unlabelled) else one_line(error)
                told = [pending.failed(reason)]
                self._book.fail(pending.number)
            finally:
                pending.trace.end()
                self._since.popleft()
                self._room.release()
            self._book.finish(pending, self._labelling.dump())
            kept = None if row is None else row.model_dump_json(by_alias=True)
            self.bus.publish(*told, state=self._snapshot(), row=kept, rows=self._labelling.kept + MAX_IN_FLIGHT)

    def _telling(self) -> bool:
        return self._interim is not None and not self._interim.done()

    async def _tell_interim(self, interim: Interim) -> None:
        """Words so far of an utterance that goes on, and its label where one is due. Whatever fails here, its end will
        tell."""
        told, utterance = interim.told, interim.utterance
        try:
            if interim.label or told.speaker is None:
                told.speaker = await self._understanding.voices.guess(utterance)
            pending = self._pending(utterance, told.speaker, told.number)
            pending.said = self._understanding.given_words(utterance, told.speaker, keep=True)
            await self._understanding.read_so_far(pending)
            if pending.text_so_far and self._interims.goes_on(utterance):
                told.agreement.add(pending.said.text)
                pending.said, pending.stable = Transcription(told.agreement.text), told.agreement.stable
                self.bus.publish(pending.partial(interim.count))
            if interim.label:
                await self._label_so_far(pending, interim)
        except Discarded:
            return  # it has ended: its own label is on the way
        except Exception as error:
            if interim.label:
                self._notice(events.Degraded, reason=f"no interim label: {one_line(error)}")

    async def _label_so_far(self, pending: UtteranceInProgress, interim: Interim) -> None:
        pending.before = tuple(each for each in pending.before if each.understood.is_set())
        await self._understanding.understand_so_far(pending)
        label = await self._labelling.preview(pending, interim.count)
        if label is not None and self._interims.goes_on(interim.utterance):
            self.bus.publish(label)

    def _watch_lag(self, lag: float) -> None:
        """Announce a lag of a second, and then each doubling, until it is made up."""
        self._lag = lag
        if lag >= max(1.0, 2 * self._lag_announced):
            self._lag_announced = lag
            self._notice(events.Lag, seconds=lag)
        elif lag < 0.5:
            self._lag_announced = 0.0

    def _notice(self, kind: type[events.Lag] | type[events.Degraded], **fields: object) -> None:
        self.bus.publish(self._noticed(kind, **fields))

    def _noticed(self, kind: type[events.Lag] | type[events.Degraded], **fields: object) -> events.Base:
        values = {"id": self._notice_id(), "session": self.plan.session, "audio_time": self.position, **fields}
        return kind.model_validate(values)

    def _notice_id(self) -> str:
        self._book.notices += 1
        return f"{self.plan.session}:notice:{self._book.notices}"
