"""One conversation from blocks of media to published events: segmenting, order, publishing. No Ray in here."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from model.dialogue import GraphRow, Heard, SpeakerMemory
from model.fusion import FusionConfig
from model.incremental import Judgement, Step
from model.prosody import Array
from model.silero import SileroVad
from model.text import Line
from stream import events
from stream.block import Block, Samples, Utterance
from stream.bus import Bus
from stream.segmentation import Segmentation
from stream.segmenter import Endpointing, Segmenter, TurnSegmenter, VadSegmenter
from stream.speakers import SpeakerClusters
from stream.transcript import Transcript
from stream.turns import Turn
from stream.vad import WebRtcVad
from workers.recognizer import StateLost

IN_FLIGHT = 8  # utterances whose words or embeddings are being made; then the source has to wait


@dataclass(frozen=True)
class SessionPlan:
    """What a session listens to and with what, decided before it starts."""

    session: str
    sources: tuple[str, ...]
    channels: int
    speakers: str
    """"channel", "turns" or "cluster"."""
    modalities: tuple[str, ...]
    """Those switched on."""
    encoders: dict[str, str | None]
    checkpoint: str
    names: dict[int, str] = field(default_factory=dict)
    """Speaker of each channel."""
    turns: tuple[Turn, ...] = ()
    transcript: Transcript | None = None
    vad: str = "webrtc"
    endpointing: Endpointing = field(default_factory=Endpointing)
    redact: bool = False
    consent: str | None = None


class Helpers(Protocol):
    """What a session asks of others: the Ray pools, or plain functions in tests."""

    async def transcribe(self, samples: Samples) -> str: ...

    async def embed(self, lines: list[Line]) -> tuple[Array, Array | None]:
        """The last line's embedding, and the opinion of the expert that reads it in context."""
        ...

    async def prosody(self, samples: Samples) -> Array | None: ...

    async def label(self, session: str, number: int, heard: Heard) -> Step: ...

    async def restore(self, session: str, rows: list[GraphRow]) -> None: ...

    async def finish(self, session: str, rows: list[GraphRow]) -> list[Judgement]: ...


@dataclass
class _Pending:
    """An utterance on its way; later, what is known of it for its final label."""

    number: int
    utterance: Utterance
    speaker: str
    heard_at: float
    before: tuple[_Pending, ...] = ()
    """The utterances whose words the text encoder reads along, until it has."""
    text: str = ""
    understood: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `text` is final."""
    embedding: Array | None = None
    opinion: Array | None = None
    prosody: Array | None = None
    queue: float = 0.0
    asr: float = 0.0
    encode: float = 0.0
    used: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Why a modality that was there could not be understood."""


def segmenters(plan: SessionPlan) -> list[Segmenter]:
    """One segmenter a channel, as the plan says."""
    if plan.speakers == "turns":
        return [TurnSegmenter(plan.turns, plan.endpointing)]
    return [
        VadSegmenter(
            SileroVad() if plan.vad == "silero" else WebRtcVad(),
            plan.endpointing,
            channel,
            plan.names.get(channel, f"speaker {channel + 1}") if plan.speakers == "channel" else None,
        )
        for channel in range(plan.channels)
    ]


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
        self._clusters = SpeakerClusters()
        self._memory = SpeakerMemory(config.prosody, config.window)
        self._rows: deque[GraphRow] = deque(maxlen=config.window)
        self._spoken: deque[_Pending] = deque(maxlen=context(config))
        self._labelled: dict[int, _Pending] = {}  # by number in the graph, the last W + R
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._queue: asyncio.Queue[tuple[_Pending, asyncio.Task[None]] | None] = asyncio.Queue()
        self._publisher: asyncio.Task[None] | None = None
        self._next_block = self._next_utterance = self._in_graph = self._failed = self._notices = 0
        self._early: dict[int, Block] = {}
        self._in_order = asyncio.Lock()
        self._lag_announced = 0.0
        self._dropped = 0.0

    @property
    def position(self) -> float:
        """Media time heard, in seconds."""
        return self._segmentation.position

    async def start(self) -> None:
        """Announce the session."""
        plan = self._plan
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        await self._bus.register(started)
        self._publish(
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
            )
        )
        self._publisher = asyncio.create_task(self._publish_in_order())

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
        if block.dropped:
            self._dropped += block.dropped
            self._notice(events.Degraded, reason=f"{block.dropped:.1f} s of audio lost before it could be read")
        self._watch_lag(block.lag)
        await self._admit(self._segmentation.push(block))

    async def finish(self, reason: str, counts: dict[str, int] | None = None) -> events.SessionEnded:
        """Publish what was heard and what is owed, then `session.ended`."""
        await self._admit(self._segmentation.flush())
        self._queue.put_nowait(None)
        if self._publisher is not None:
            await self._publisher
        if self._in_graph:
            for final in await self._helpers.finish(self._plan.session, list(self._rows)):
                self._publish(self._emotion(self._labelled[final.number], final, None))
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
        self._publish(ended)
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

    async def _admit(self, utterances: Iterable[Utterance]) -> None:
        for utterance in utterances:
            await self._room.acquire()
            speaker = utterance.speaker or self._clusters.assign(utterance.samples)
            pending = _Pending(self._next_utterance, utterance, speaker, time.monotonic(), tuple(self._spoken))
            self._spoken.append(pending)
            self._next_utterance += 1
            if self._plan.transcript is not None:
                # Here and not in the task, so that words are given out in the order of the utterances.
                channel = utterance.channel if self._plan.speakers == "channel" else None
                # Names that RTTM or --names made up say nothing of the transcript's speakers.
                known = speaker if speaker in self._plan.transcript.speakers else None
                exact = known is not None and self._plan.speakers == "turns"
                pending.text = self._plan.transcript.take(utterance.start, utterance.end, channel, known, exact)
            self._queue.put_nowait((pending, asyncio.create_task(self._understand(pending))))

    async def _understand(self, pending: _Pending) -> None:
        """Words and prosody of one utterance; several run at once. What breaks costs its modality alone."""
        started = time.monotonic()
        pending.queue = started - pending.heard_at
        outcomes = await asyncio.gather(self._read(pending), self._measure(pending), return_exceptions=True)
        pending.broken = [f"{type(e).__name__}: {e}".splitlines()[0] for e in outcomes if isinstance(e, Exception)]
        pending.encode = time.monotonic() - started - pending.asr

    async def _read(self, pending: _Pending) -> None:
        if "text" not in self._plan.modalities:
            return
        started = time.monotonic()
        try:
            if self._plan.transcript is None and self._plan.encoders["asr"]:
                pending.text = await self._helpers.transcribe(pending.utterance.samples)
            pending.asr = time.monotonic() - started
            pending.understood.set()
            if pending.text:
                for earlier in pending.before:
                    await earlier.understood.wait()
                lines = [Line(each.speaker, each.text) for each in (*pending.before, pending)]
                pending.embedding, pending.opinion = await self._helpers.embed(lines)
        finally:
            pending.understood.set()
            pending.before = ()  # else each utterance would hold on to all before it

    async def _measure(self, pending: _Pending) -> None:
        if "audio" in self._plan.modalities and self._plan.encoders["audio"]:
            pending.prosody = await self._helpers.prosody(pending.utterance.samples)

    async def _publish_in_order(self) -> None:
        while (entry := await self._queue.get()) is not None:
            pending, task = entry
            try:
                await task
                await self._label(pending)
            except Exception as error:
                self._fail(pending, f"{type(error).__name__}: {error}".splitlines()[0])
            finally:
                self._room.release()

    async def _label(self, pending: _Pending) -> None:
        plan, utterance = self._plan, pending.utterance
        self._publish(
            events.UtteranceHeard(
                id=f"{plan.session}:{pending.number}:heard",
                session=plan.session,
                utterance=pending.number,
                speaker=pending.speaker,
                audio_start=utterance.start,
                audio_end=utterance.end,
                text=None if plan.redact else pending.text,
            )
        )
        embeddings = {} if pending.embedding is None else {"text": pending.embedding}
        opinions = {} if pending.opinion is None else {"reader": pending.opinion}
        heard = self._memory.hear(pending.speaker, embeddings, pending.prosody, opinions)
        pending.used = [name for name in self._config.modalities if name in heard.features]
        if not pending.used:
            reason = "nothing to go by: no words were understood and no prosody was measured"
            self._fail(pending, "; ".join([*pending.broken, reason]))
            return
        if pending.broken:
            self._notice(events.Degraded, reason=f"utterance {pending.number}: {'; '.join(pending.broken)}")
        started = time.monotonic()
        number = self._in_graph
        try:
            step = await self._helpers.label(plan.session, number, heard)
        except StateLost:
            await self._helpers.restore(plan.session, list(self._rows))
            step = await self._helpers.label(plan.session, number, heard)
        self._in_graph += 1
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
        self._publish(self._emotion(pending, step.judgement, latency))
        # Its times are needed until its final label; its sound and pictures no more.
        pending.utterance = replace(utterance, samples=np.zeros(0, np.float32), frames=())
        if step.final is not None:
            self._publish(self._emotion(self._labelled[step.final.number], step.final, None))

    def _emotion(self, pending: _Pending, judgement: Judgement, latency: events.Latency | None) -> events.Emotion:
        plan = self._plan
        return events.Emotion(
            id=f"{plan.session}:{pending.number}:{judgement.revision}",
            session=plan.session,
            utterance=pending.number,
            revision=judgement.revision,
            final=judgement.revision == 1,
            trigger="context" if judgement.revision else "speech_ended",
            speaker=pending.speaker,
            audio_start=pending.utterance.start,
            audio_end=pending.utterance.end,
            text=None if plan.redact else pending.text,
            emotion=max(judgement.emotion, key=judgement.emotion.__getitem__),
            probabilities=judgement.emotion,
            sentiment=max(judgement.sentiment, key=judgement.sentiment.__getitem__),
            uncertain=judgement.uncertain,
            modalities=events.Modalities(
                used=pending.used, missing=[name for name in self._config.modalities if name not in pending.used]
            ),
            contribution=judgement.contribution,
            influences={self._labelled[n].number: share for n, share in judgement.influences.items()},
            latency=latency,
        )

    def _fail(self, pending: _Pending, reason: str) -> None:
        self._failed += 1
        self._publish(
            events.UtteranceFailed(
                id=f"{self._plan.session}:{pending.number}:failed",
                session=self._plan.session,
                utterance=pending.number,
                speaker=pending.speaker,
                audio_start=pending.utterance.start,
                audio_end=pending.utterance.end,
                reason=reason,
            )
        )

    def _watch_lag(self, lag: float) -> None:
        """Announce a lag of a second, and then each doubling, until it is made up."""
        if lag >= max(1.0, 2 * self._lag_announced):
            self._lag_announced = lag
            self._notice(events.Lag, seconds=lag)
        elif lag < 0.5:
            self._lag_announced = 0.0

    def _notice(self, kind: type[events.Lag] | type[events.Degraded], **fields: object) -> None:
        self._notices += 1
        notice_id = f"{self._plan.session}:notice:{self._notices}"
        values = {"id": notice_id, "session": self._plan.session, "audio_time": self.position, **fields}
        self._publish(kind.model_validate(values))

    def _publish(self, event: events.Base) -> None:
        self._bus.publish(event)
