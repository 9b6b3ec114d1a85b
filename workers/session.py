"""One conversation from blocks of media to published events: segmenting, order, publishing. No Ray in here."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter, deque
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from model.dialogue import GraphRow, Heard, SpeakerMemory
from model.experts import MODALITY_OF
from model.fusion_config import FusionConfig
from model.incremental import Judgement
from stream import events
from stream.block import Block, Utterance
from stream.bus import Bus
from stream.directory import Load
from stream.segmentation import Segmentation
from workers.interims import Interims
from workers.masking import Masker
from workers.pending import Pending, one_line
from workers.plan import Helpers, SessionPlan, segmenters
from workers.recognizer import StateLost
from workers.tracing import UtteranceTrace
from workers.understanding import Understanding

BEAT = 2.0  # seconds between signs of life
IN_FLIGHT = 8  # utterances whose words or embeddings are being made; then the source has to wait


def context(config: FusionConfig) -> int:
    """How many earlier utterances the text encoders read along."""
    return max(config.text.context, config.reader.context if config.reader else 0)


class Session:
    """Takes blocks in order, keeps up to `IN_FLIGHT` utterances in work at once, publishes in order.

    Every utterance ends in an `emotion` or an `utterance.failed` event.
    """

    def __init__(self, plan: SessionPlan, config: FusionConfig, helpers: Helpers, bus: Bus) -> None:
        self.plan, self.helpers, self.bus, self._config = plan, helpers, bus, config
        self._mask = Masker(plan.people) if plan.mask else None
        self._segmentation = Segmentation(segmenters(plan))
        self._understanding = Understanding(plan, config, helpers)
        self._memory = SpeakerMemory(config.prosody, config.window)
        self._rows: deque[GraphRow] = deque(maxlen=config.window)
        self._spoken: deque[Pending] = deque(maxlen=context(config))
        self._labelled: dict[int, Pending] = {}  # by number in the graph, the last W + R
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._queue: asyncio.Queue[tuple[Pending, asyncio.Task[None]] | None] = asyncio.Queue()
        self._publisher: asyncio.Task[None] | None = None
        self._interims = Interims(plan.interim)
        self._interim: asyncio.Task[None] | None = None
        self._next_utterance = self._in_graph = self._failed = self._notices = 0
        self._lag = self._lag_announced = 0.0
        self._dropped = 0.0
        self._begun = time.monotonic()
        self._heart: asyncio.Task[None] | None = None

    @property
    def position(self) -> float:
        """Media time heard, in seconds."""
        return self._segmentation.position

    async def start(self) -> None:
        """Announce the session."""
        plan = self.plan
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        await self.bus.register(started)
        self.bus.publish(
            events.SessionStarted(
                id=f"{plan.session}:started",
                session=plan.session,
                time=started,
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
        )
        self._publisher = asyncio.create_task(self._publish_in_order())
        self._begun = time.monotonic()
        await self.bus.beat(self.load().model_dump_json())
        self._heart = asyncio.create_task(self._beat())

    def load(self) -> Load:
        """How it does."""
        seconds = time.monotonic() - self._begun
        return Load(position=self.position, seconds=seconds, in_flight=self._queue.qsize(), lag=self._lag)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await self.bus.beat(self.load().model_dump_json())

    async def push(self, block: Block) -> None:
        """Take the next block; waits while too much is in flight."""
        if block.notice:
            self._notice(events.Degraded, reason=block.notice)
        if block.dropped:
            self._dropped += block.dropped
            self._notice(events.Degraded, reason=f"{block.dropped:.1f} s of audio lost before it could be read")
        self._watch_lag(block.lag)
        await self._admit(self._segmentation.push(block))

    async def finish(self, reason: str, counts: dict[str, int] | None = None) -> events.SessionEnded:
        """Publish what was heard and what is owed, then `session.ended`."""
        await self._admit(self._segmentation.flush())
        if self._interim is not None:
            await self._interim
        self._queue.put_nowait(None)
        if self._publisher is not None:
            await self._publisher
        if self._in_graph:
            for final in await self.helpers.finish(self.plan.session, list(self._rows)):
                self.bus.publish(self._labelled[final.number].emotion(final, self._influences(final)))
        every = Counter(self._segmentation.counts) + Counter(counts or {})
        if self.plan.transcript is not None:
            every["transcript_words"] = self.plan.transcript.words
            every["transcript_words_unspoken"] = self.plan.transcript.unspoken
        if self._dropped:
            every["lost_audio_ms"] = round(1000 * self._dropped)
        if self.bus.given_up:
            every["events_given_up"] = self.bus.given_up
        ended = events.SessionEnded(
            id=f"{self.plan.session}:ended",
            session=self.plan.session,
            reason=self._verdict(reason),
            duration=self.position,
            utterances=self._next_utterance,
            failed=self._failed,
            counts=dict(every),
        )
        self.bus.publish(ended)
        self.close()
        if not await self.bus.aclose():
            raise ConnectionError("Redis stayed away; the last events were not published")
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
        if transcript is not None and transcript.words == transcript.unspoken:
            return f"error: the transcript does not match: none of its {transcript.words} words falls on speech"
        return reason if self._next_utterance else "error: no speech was found"

    async def _admit(self, utterances: list[Utterance]) -> None:
        """Take utterances that have ended into work; then see to those that go on."""
        for whole in utterances:
            reserved = self._interims.close(whole)
            self._understanding.ahead.confirm(whole)
            try:
                spoken, merged = await self._understanding.voices.tell_apart(whole)
            except Exception as error:
                self._notice(events.Degraded, reason=f"the speaker is not known: {one_line(error)}")
                spoken, merged = [(whole, self._spoken[-1].speaker if self._spoken else "speaker 1")], []
            for who, into in merged:
                self._notices += 1
                notice = f"{self.plan.session}:notice:{self._notices}"
                self.bus.publish(events.SpeakerMerged(id=notice, session=self.plan.session, speaker=who, into=into))
            if len(spoken) > 1:
                self._understanding.ahead.done(whole)  # its parts are others
            for utterance, speaker in spoken:
                await self._room.acquire()
                pending = self._pending(utterance, speaker, reserved)
                pending.trace, reserved = UtteranceTrace.begin(self.plan.session, pending.number), None
                self._spoken.append(pending)
                pending.said = self._understanding.given_words(utterance, speaker)  # here: words are given out in order
                self._queue.put_nowait((pending, asyncio.create_task(self._understanding.understand(pending))))
        if self.plan.speculate and not self._room.locked():
            self._understanding.begin_ahead(self._segmentation.pausing(), self._spoken)
        going_on = self._segmentation.open()
        for number, heard in self._interims.vanished(going_on):
            self._fail(self._pending(heard, heard.speaker or "unknown", number), "it turned out to be no speech")
        for utterance in self._interims.grown(going_on):
            self._interims.reserve(utterance, self._next_utterance)
            self._next_utterance += 1
        due = None if self._room.locked() or self._telling() else self._interims.due(going_on)
        if due is not None:
            number, count = self._interims.tell(due)
            self._interim = asyncio.create_task(self._tell_interim(due, number, count))

    def _pending(self, utterance: Utterance, speaker: str, number: int | None = None) -> Pending:
        if number is None:
            number, self._next_utterance = self._next_utterance, self._next_utterance + 1
        before = tuple(self._spoken)
        heard_at, redact = time.monotonic(), self.plan.redact
        return Pending(self.plan.session, number, utterance, speaker, heard_at, redact, self._mask, before)

    async def _publish_in_order(self) -> None:
        while (entry := await self._queue.get()) is not None:
            pending, task = entry
            try:
                await task
                with pending.trace.entered():
                    await self._label(pending)
            except Exception as error:
                self._fail(pending, one_line(error))
            finally:
                pending.trace.end()
                self._room.release()

    def _gather(self, pending: Pending, memory: SpeakerMemory) -> Heard:
        """The utterance as the network reads it; notes which modalities that is, and which are missing."""
        embeddings = {} if pending.embedding is None else {"text": pending.embedding}
        heard = memory.hear(pending.speaker, embeddings, pending.prosody, pending.opinions)
        opining = {MODALITY_OF[expert] for expert in pending.opinions}
        wanted = (*self._config.modalities, *(["visual"] if self.plan.encoders.get("visual") else []))
        pending.used = [name for name in wanted if name in heard.features or name in opining]
        pending.missing = [name for name in wanted if name not in pending.used]
        return heard

    async def _label(self, pending: Pending) -> None:
        session, utterance = self.plan.session, pending.utterance
        self.bus.publish(pending.heard())
        heard = self._gather(pending, self._memory)
        if not pending.used:
            reason = "nothing to go by: no words were understood, and neither voice nor face could be judged"
            self._fail(pending, "; ".join([*pending.broken, reason]))
            return
        if pending.broken:
            self._notice(events.Degraded, reason=f"utterance {pending.number}: {'; '.join(pending.broken)}")
        started = time.monotonic()
        number = self._in_graph
        try:
            step = await self.helpers.label(session, number, heard)
        except StateLost:
            await self.helpers.restore(session, list(self._rows))
            step = await self.helpers.label(session, number, heard)
        self._in_graph += 1
        pending.contribution = step.judgement.contribution
        self._rows.append(step.row)
        self._labelled[number] = pending
        self._labelled.pop(number - self._config.window - self._config.revision, None)
        latency = events.Latency(
            vad=utterance.confirmed - utterance.end,
            queue=pending.queue,
            asr=pending.asr,
            encode=pending.encode,
            graph=time.monotonic() - started,
            publish=self.bus.delay,
        )
        self.bus.publish(pending.emotion(step.judgement, self._influences(step.judgement), latency))
        # Its times are needed until its final label; its sound and pictures no more.
        pending.utterance = replace(utterance, samples=np.zeros(0, np.float32), frames=())
        if step.final is not None:
            self.bus.publish(self._labelled[step.final.number].emotion(step.final, self._influences(step.final)))

    def _influences(self, judgement: Judgement) -> dict[int, float]:
        """By the number that events give an utterance; in the graph, those that failed do not count."""
        return {self._labelled[n].number: share for n, share in judgement.influences.items() if n in self._labelled}

    def _telling(self) -> bool:
        return self._interim is not None and not self._interim.done()

    async def _tell_interim(self, utterance: Utterance, number: int, count: int) -> None:
        """Words and label so far of an utterance that goes on. Whatever fails here, its end will tell."""
        try:
            speaker = await self._understanding.voices.guess(utterance)
            pending = self._pending(utterance, speaker, number)
            pending.said = self._understanding.given_words(utterance, speaker, keep=True)
            pending.before = tuple(each for each in pending.before if each.understood.is_set())
            await self._understanding.understand_so_far(pending)
            heard = self._gather(pending, copy.deepcopy(self._memory))
            judgement = await self.helpers.peek(self.plan.session, self._in_graph, heard) if pending.used else None
        except Exception as error:
            self._notice(events.Degraded, reason=f"no interim label: {one_line(error)}")
            return
        if not self._interims.goes_on(utterance):
            return  # its own label is on the way
        if pending.said.text:
            self.bus.publish(pending.partial(count))
        if judgement is not None:
            self.bus.publish(pending.emotion(judgement, self._influences(judgement), interim=count))

    def _fail(self, pending: Pending, reason: str) -> None:
        self._failed += 1
        self.bus.publish(pending.failed(reason))

    def _watch_lag(self, lag: float) -> None:
        """Announce a lag of a second, and then each doubling, until it is made up."""
        self._lag = lag
        if lag >= max(1.0, 2 * self._lag_announced):
            self._lag_announced = lag
            self._notice(events.Lag, seconds=lag)
        elif lag < 0.5:
            self._lag_announced = 0.0

    def _notice(self, kind: type[events.Lag] | type[events.Degraded], **fields: object) -> None:
        self._notices += 1
        notice_id = f"{self.plan.session}:notice:{self._notices}"
        values = {"id": notice_id, "session": self.plan.session, "audio_time": self.position, **fields}
        self.bus.publish(kind.model_validate(values))
