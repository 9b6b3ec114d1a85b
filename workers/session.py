"""One conversation from blocks of media to published events: segmenting, order, publishing. No Ray in here."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from model.asr import Recognized
from model.dialogue import GraphRow, Heard, SpeakerMemory
from model.experts import MODALITY_OF
from model.fusion import FusionConfig
from model.incremental import Judgement
from model.labels import translate
from model.prosody import Array
from model.sight import EXPRESSIONS
from model.text import Line
from model.voice import EMOTIONS as VOICE_EMOTIONS
from stream import events
from stream.block import Block, Utterance
from stream.bus import Bus
from stream.directory import Load
from stream.segmentation import Segmentation
from workers.ahead import Ahead
from workers.diarization import Diarization, Part
from workers.interims import Interims
from workers.pending import Pending
from workers.plan import Helpers, SessionPlan, segmenters
from workers.recognizer import StateLost
from workers.tracing import UtteranceTrace

BEAT = 2.0  # seconds between signs of life
IN_FLIGHT = 8  # utterances whose words or embeddings are being made; then the source has to wait


def context(config: FusionConfig) -> int:
    """How many earlier utterances the text encoders read along."""
    return max(config.text.context, config.reader.context if config.reader else 0)


class Session:
    """Takes blocks in order, keeps up to `IN_FLIGHT` utterances in work at once, publishes in order.

    Blocks are idempotent by number. Every utterance ends in an `emotion` or an `utterance.failed` event.
    """

    def __init__(self, plan: SessionPlan, config: FusionConfig, helpers: Helpers, bus: Bus) -> None:
        self._plan, self._config, self._helpers, self._bus = plan, config, helpers, bus
        self._segmentation = Segmentation(segmenters(plan))
        self._ahead = Ahead()
        self._guesses: set[asyncio.Task[None]] = set()
        self._voices = Diarization(plan.enrolled, self._parts)
        self._memory = SpeakerMemory(config.prosody, config.window)
        self._rows: deque[GraphRow] = deque(maxlen=config.window)
        self._spoken: deque[Pending] = deque(maxlen=context(config))
        self._labelled: dict[int, Pending] = {}  # by number in the graph, the last W + R
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._queue: asyncio.Queue[tuple[Pending, asyncio.Task[None]] | None] = asyncio.Queue()
        self._publisher: asyncio.Task[None] | None = None
        self._interims = Interims(plan.interim)
        self._interim: asyncio.Task[None] | None = None
        self._next_block = self._next_utterance = self._in_graph = self._failed = self._notices = 0
        self._early: dict[int, Block] = {}
        self._in_order = asyncio.Lock()
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
        plan = self._plan
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        await self._bus.register(started)
        self._bus.publish(
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
                recorded=plan.recorded,
            )
        )
        self._publisher = asyncio.create_task(self._publish_in_order())
        self._begun = time.monotonic()
        await self._bus.beat(self.load().model_dump_json())
        self._heart = asyncio.create_task(self._beat())

    def load(self) -> Load:
        """How it does."""
        seconds = time.monotonic() - self._begun
        return Load(position=self.position, seconds=seconds, in_flight=self._queue.qsize(), lag=self._lag)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await self._bus.beat(self.load().model_dump_json())

    async def push(self, block: Block) -> None:
        """Take a block; waits while too much is in flight.

        Calls of an async actor may overtake each other: a block that comes early waits for those before it, one that
        was taken already is ignored.
        """
        if block.number >= self._next_block:
            self._early[block.number] = block
        async with self._in_order:
            while (block_due := self._early.pop(self._next_block, None)) is not None:
                self._next_block += 1
                await self._take(block_due)

    async def _take(self, block: Block) -> None:
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
        for guess in self._guesses:
            guess.cancel()
        self._queue.put_nowait(None)
        if self._publisher is not None:
            await self._publisher
        if self._in_graph:
            for final in await self._helpers.finish(self._plan.session, list(self._rows)):
                self._bus.publish(self._labelled[final.number].emotion(final, self._influences(final)))
        every = Counter(self._segmentation.counts) + Counter(counts or {})
        if self._plan.transcript is not None:
            every["transcript_words"] = self._plan.transcript.words
            every["transcript_words_unspoken"] = self._plan.transcript.unspoken
        if self._dropped:
            every["lost_audio_ms"] = round(1000 * self._dropped)
        if self._bus.given_up:
            every["events_given_up"] = self._bus.given_up
        ended = events.SessionEnded(
            id=f"{self._plan.session}:ended",
            session=self._plan.session,
            reason=self._verdict(reason),
            duration=self.position,
            utterances=self._next_utterance,
            failed=self._failed,
            counts=dict(every),
        )
        self._bus.publish(ended)
        if self._heart is not None:
            self._heart.cancel()
        if not await self._bus.aclose():
            raise ConnectionError("Redis stayed away; the last events were not published")
        return ended

    def _verdict(self, reason: str) -> str:
        """The reason for the end, or what is wrong with a session that ran to its end and says nothing."""
        transcript = self._plan.transcript
        if reason != "end of source":
            return reason
        if transcript is not None and transcript.words == transcript.unspoken:
            return f"error: the transcript does not match: none of its {transcript.words} words falls on speech"
        return reason if self._next_utterance else "error: no speech was found"

    async def _admit(self, utterances: list[Utterance]) -> None:
        """Take utterances that have ended into work; then see to those that go on."""
        for whole in utterances:
            reserved = self._interims.close(whole)
            self._ahead.confirm(whole)
            try:
                spoken, merged = await self._voices.tell_apart(whole)
            except Exception as error:
                self._notice(events.Degraded, reason=f"the speaker is not known: {one_line(error)}")
                spoken, merged = [(whole, self._spoken[-1].speaker if self._spoken else "speaker 1")], []
            for who, into in merged:
                self._notices += 1
                notice = f"{self._plan.session}:notice:{self._notices}"
                self._bus.publish(events.SpeakerMerged(id=notice, session=self._plan.session, speaker=who, into=into))
            if len(spoken) > 1:
                self._ahead.done(whole)  # its parts are others
            for utterance, speaker in spoken:
                await self._room.acquire()
                pending = self._pending(utterance, speaker, reserved)
                pending.trace, reserved = UtteranceTrace.begin(self._plan.session, pending.number), None
                self._spoken.append(pending)
                pending.said = self._from_transcript(pending)  # here, so that words are given out in order
                self._queue.put_nowait((pending, asyncio.create_task(self._understand(pending))))
        if self._plan.speculate and not self._room.locked():
            for utterance in self._segmentation.pausing():
                if self._ahead.begin(utterance):
                    guess = asyncio.create_task(self._understand_ahead(utterance))
                    self._guesses.add(guess)
                    guess.add_done_callback(self._guesses.discard)
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
        return Pending(self._plan.session, number, utterance, speaker, time.monotonic(), self._plan.redact, before)

    def _from_transcript(self, pending: Pending, keep: bool = False) -> Recognized:
        transcript, utterance, speaker = self._plan.transcript, pending.utterance, pending.speaker
        if transcript is None:
            return Recognized()
        channel = utterance.channel if self._plan.speakers == "channel" else None
        # Names that RTTM or --names made up say nothing of the transcript's speakers.
        known = speaker if speaker in transcript.speakers else None
        exact = known is not None and self._plan.speakers == "turns"
        return Recognized(transcript.take(utterance.start, utterance.end, channel, known, exact, keep))

    async def _understand(self, pending: Pending) -> None:
        """Words, sound and sight of one utterance; several run at once. What breaks costs its modality alone."""
        started = time.monotonic()
        pending.queue = started - pending.heard_at
        with pending.trace.entered():
            work = (self._read(pending), self._listen(pending), self._look(pending))
            outcomes = await asyncio.gather(*work, return_exceptions=True)
        self._ahead.done(pending.utterance)
        pending.broken = [one_line(error) for error in outcomes if isinstance(error, BaseException)]
        pending.encode = time.monotonic() - started - pending.asr

    async def _understand_ahead(self, utterance: Utterance) -> None:
        """Ask what will be asked if the utterance ends here. Whatever fails, its true end will tell."""
        with suppress(Exception):
            speaker = await self._voices.guess(utterance)
            before = tuple(self._spoken)
            guess = Pending(self._plan.session, -1, utterance, speaker, time.monotonic(), self._plan.redact, before)
            guess.said = self._from_transcript(guess, keep=True)
            await asyncio.gather(self._read(guess), self._listen(guess), self._look(guess))

    async def _parts(self, utterance: Utterance) -> list[Part]:
        return await self._ahead.ask(utterance, "voices", lambda: self._helpers.voices(utterance.samples))

    async def _read(self, pending: Pending) -> None:
        if "text" not in self._plan.modalities:
            return
        started = time.monotonic()
        try:
            if self._plan.transcript is None and self._plan.encoders["asr"]:
                samples, language = pending.utterance.samples, self._plan.language
                pending.said = await self._ahead.ask(
                    pending.utterance, "words", lambda: self._helpers.transcribe(samples, language)
                )
            pending.asr = time.monotonic() - started
            pending.understood.set()
            if pending.said.text:
                for earlier in pending.before:
                    await earlier.understood.wait()
                await self._embed(pending)
        finally:
            pending.understood.set()
            pending.before = ()  # else each utterance would hold on to all before it

    async def _embed(self, pending: Pending) -> None:
        lines = [Line(each.speaker, each.said.text) for each in (*pending.before, pending)]
        pending.embedding, opinion = await self._ahead.ask(
            pending.utterance, tuple(lines), lambda: self._helpers.embed(lines)
        )
        if opinion is not None:
            pending.opinions["reader"] = opinion

    async def _listen(self, pending: Pending) -> None:
        if "audio" in self._plan.modalities and self._plan.encoders["audio"]:
            utterance = pending.utterance
            pending.prosody, posterior = await self._ahead.ask(
                utterance, "voice", lambda: self._helpers.hear(utterance.samples)
            )
            self._opine(pending, "voice", VOICE_EMOTIONS, posterior)

    async def _look(self, pending: Pending) -> None:
        if self._plan.encoders.get("visual"):
            utterance = pending.utterance
            images, times = [f.image for f in utterance.frames], [f.time for f in utterance.frames]
            pending.sight = await self._ahead.ask(
                utterance, "face", lambda: self._helpers.look(images, times, utterance.samples, utterance.start)
            )
            self._opine(pending, "face", EXPRESSIONS, pending.sight.expression)

    def _opine(self, pending: Pending, expert: str, names: tuple[str, ...], posterior: Array | None) -> None:
        if posterior is not None and expert in self._config.experts:
            opinion = translate(names, posterior, self._config.emotions)
            if opinion is not None:
                pending.opinions[expert] = opinion

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
        wanted = (*self._config.modalities, *(["visual"] if self._plan.encoders.get("visual") else []))
        pending.used = [name for name in wanted if name in heard.features or name in opining]
        pending.missing = [name for name in wanted if name not in pending.used]
        return heard

    async def _label(self, pending: Pending) -> None:
        session, utterance = self._plan.session, pending.utterance
        self._bus.publish(pending.heard())
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
            step = await self._helpers.label(session, number, heard)
        except StateLost:
            await self._helpers.restore(session, list(self._rows))
            step = await self._helpers.label(session, number, heard)
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
            publish=self._bus.delay,
        )
        self._bus.publish(pending.emotion(step.judgement, self._influences(step.judgement), latency))
        # Its times are needed until its final label; its sound and pictures no more.
        pending.utterance = replace(utterance, samples=np.zeros(0, np.float32), frames=())
        if step.final is not None:
            self._bus.publish(self._labelled[step.final.number].emotion(step.final, self._influences(step.final)))

    def _influences(self, judgement: Judgement) -> dict[int, float]:
        """By the number that events give an utterance; in the graph, those that failed do not count."""
        return {self._labelled[n].number: share for n, share in judgement.influences.items() if n in self._labelled}

    def _telling(self) -> bool:
        return self._interim is not None and not self._interim.done()

    async def _tell_interim(self, utterance: Utterance, number: int, count: int) -> None:
        """Words and label so far of an utterance that goes on. Whatever fails here, its end will tell."""
        try:
            speaker = await self._voices.guess(utterance)
            pending = self._pending(utterance, speaker, number)
            pending.said = self._from_transcript(pending, keep=True)
            pending.before = tuple(each for each in pending.before if each.understood.is_set())
            await asyncio.gather(self._read(pending), self._listen(pending))
            heard = self._gather(pending, copy.deepcopy(self._memory))
            judgement = await self._helpers.peek(self._plan.session, self._in_graph, heard) if pending.used else None
        except Exception as error:
            self._notice(events.Degraded, reason=f"no interim label: {one_line(error)}")
            return
        if not self._interims.goes_on(utterance):
            return  # its own label is on the way
        if pending.said.text:
            self._bus.publish(pending.partial(count))
        if judgement is not None:
            self._bus.publish(pending.emotion(judgement, self._influences(judgement), interim=count))

    def _fail(self, pending: Pending, reason: str) -> None:
        self._failed += 1
        self._bus.publish(pending.failed(reason))

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
        notice_id = f"{self._plan.session}:notice:{self._notices}"
        values = {"id": notice_id, "session": self._plan.session, "audio_time": self.position, **fields}
        self._bus.publish(kind.model_validate(values))


def one_line(error: BaseException) -> str:
    """An error as it stands in an event."""
    cause = getattr(error, "cause", None) or error  # of an error in another process, Ray tells the traceback too
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
