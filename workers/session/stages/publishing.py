"""Stage 5, publish: events in order, each label in one transaction with the state that another process resumes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from redis.exceptions import RedisError

from model.encoders.speaker import VOICE_ENCODER
from stream import events
from stream.block import Block, Utterance
from stream.clock import Clock
from stream.speech.segmentation import Segmentation
from workers.session.event_factory import EventFactory
from workers.session.ledger import UtteranceLedger
from workers.session.services import EventBus
from workers.session.snapshot import Memory, Snapshot
from workers.session.utterance import AdmittedUtterance, InFlight, LabelledUtterance, UnderstoodUtterance, Words

SILENT_DBFS = -119.0
QUIET_DBFS = -45.0  # a recording whose loudest block is below this has hardly speech that a VAD finds
SNAPSHOT_INTERVAL_S = 10.0  # without an utterance, after which another process would no longer know how far we are


class Publishing:
    """Publishes all events of a session (labels, notices, its start and its end) and saves its state."""

    def __init__(
        self, factory: EventFactory, ledger: UtteranceLedger, bus: EventBus, segmentation: Segmentation, clock: Clock
    ) -> None:
        self.events, self.ledger, self.bus = factory, ledger, bus
        self.lag = 0.0
        """Seconds by which the last block came later than its media clock wanted."""
        self._segmentation, self._clock = segmentation, clock
        self._session = bus.keys.session
        self._lag_announced = 0.0
        self._dropped_announced = 0
        self._faults_announced: set[str] = set()
        self._resumed: str | None = None
        self._opened_at = clock.now()

    @property
    def seconds(self) -> float:
        """Seconds since this process opened the session."""
        return self._clock.now() - self._opened_at

    @property
    def position(self) -> float:
        """Media time of the last block's end, in seconds."""
        return self._segmentation.position

    @property
    def publish_delay_s(self) -> float:
        """Seconds that the last event took to Redis."""
        return self.bus.delay

    async def open(self) -> None:
        """Announce the session, or the process that resumes it. From here on another process can resume it."""
        self._opened_at = self._clock.now()
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        first: list[events.Base]
        if self._resumed is None:
            await self.bus.register(time)
            first = [self.events.started(time), *map(self._degraded, self.events.notes)]
        else:
            with suppress(RedisError, OSError):  # it is registered already, and will be again when Redis is back
                await self.bus.register(time)
            lost = self.ledger.fail_unfinished()
            first = [self._degraded(self._resumed), *(self.events.lost(each) for each in lost)]
        self.bus.publish(*first, state=self._state())

    def restore(self, snapshot: Snapshot, replayed: bool) -> None:
        """Go on after what another process published.

        replayed: the source is played again; else nobody listened until `position`.
        """
        self.ledger.restore(snapshot, replayed)
        voices = snapshot.milestone.voices if snapshot.milestone is not None else None
        anew = voices is not None and voices.speakers and voices.encoder != VOICE_ENCODER
        learns = "; an earlier version's voices cannot be compared, so speakers are told apart anew" if anew else ""
        if replayed:
            self._resumed = f"another process goes on from {self.ledger.resume_position:.1f} s{learns}"
            return
        missed = self.position - snapshot.position
        self.ledger.dropped += missed
        self._resumed = f"another process goes on; nobody listened for {missed:.1f} s{learns}"

    def publish_notices(self, block: Block) -> None:
        """Announce what a block says of its source: lost, back again, audio dropped, lag. Announce events that were
        dropped while Redis was away."""
        if block.notice:
            self.publish_degraded(block.notice)
        if block.dropped:
            self.ledger.dropped += block.dropped
            self.publish_degraded(f"{block.dropped:.1f} s of audio lost before it could be read")
        self._watch_lag(block.lag)
        if (dropped := self.bus.dropped_events) > self._dropped_announced and not self.bus.is_spooling:
            count, self._dropped_announced = dropped - self._dropped_announced, dropped
            self.publish_degraded(f"{count} events were given up while Redis was away")

    def publish_degraded(self, reason: str) -> None:
        """Something was lost or given up."""
        self.bus.publish(self._degraded(reason))

    def publish_faults(self, faults: Sequence[str]) -> None:
        """Publish each of these permanent failures once."""
        for fault in faults:
            if fault not in self._faults_announced:
                self._faults_announced.add(fault)
                self.publish_degraded(fault)

    def publish_merge(self, speaker: str, into: str) -> None:
        """Two speakers turned out to be one."""
        self.bus.publish(events.SpeakerMerged(id=self._notice_id(), session=self._session, speaker=speaker, into=into))

    def publish_failure(self, number: int, utterance: Utterance, speaker: str, reason: str) -> None:
        """An utterance will get no label."""
        self.ledger.fail(number)
        self.bus.publish(self.events.failed(number, utterance, speaker, reason))

    def publish_partial(self, admitted: AdmittedUtterance, words: Words, stable: str, count: int) -> None:
        """Words so far of an utterance that goes on."""
        self.bus.publish(self.events.partial(admitted, words, stable, count))

    def publish_label(self, label: events.Emotion) -> None:
        """A label that leaves nothing for later ones: an interim one, or a final one at the session's end."""
        self.bus.publish(label)

    def publish_words(self, in_flight: InFlight, understood: UnderstoodUtterance) -> None:
        """The words of an utterance."""
        self.bus.publish(self.events.heard(in_flight.admitted, understood.words))

    def publish_outcome(
        self,
        in_flight: InFlight,
        understood: UnderstoodUtterance | None,
        outcome: LabelledUtterance | str,
        memory: Memory,
        rows: int,
    ) -> None:
        """The outcome of an utterance, a label or the reason why there is none; after all utterances before it.

        memory: what the labels so far leave; rows: number of graph rows that another process needs.
        """
        admitted, row = in_flight.admitted, None
        if isinstance(outcome, LabelledUtterance):
            if understood is not None and understood.errors:
                self.publish_degraded(f"utterance {admitted.number}: {'; '.join(understood.errors.values())}")
            outcome_events: list[events.Base] = [outcome.emotion, *([] if outcome.final is None else [outcome.final])]
            row = outcome.row.model_dump_json(by_alias=True)
        else:
            outcome_events = [self.events.failed(admitted.number, admitted.utterance, admitted.speaker, outcome)]
            self.ledger.fail(admitted.number)
        self.ledger.finish(in_flight, understood, self.events.keeps_words, memory)
        self.bus.publish(*outcome_events, state=self._state(), row=row, rows=rows)

    def save(self) -> None:
        """Save the session's state without an event."""
        self.bus.save_state(self._state())

    async def heartbeat(self, load: str) -> None:
        """A sign of life, with the session's load as JSON; and its state, if the last one is old."""
        await self.bus.beat(load)
        if self.ledger.age > SNAPSHOT_INTERVAL_S and not self.bus.is_spooling:
            self.save()

    async def end(self, reason: str, counts: Mapping[str, int], patience: float) -> events.SessionEnded:
        """Publish `session.ended`, and wait until Redis has everything.

        counts: of what was dropped, joined or repaired. Raises ConnectionError when Redis stays away for `patience`
        seconds; what it did not get waits on disk.
        """
        every = self.ledger.counts + self._segmentation.counts
        every.update(counts)
        if self.ledger.dropped:
            every["lost_audio_ms"] = round(1000 * self.ledger.dropped)
        if self.bus.dropped_events:
            every["events_given_up"] = self.bus.dropped_events
        if reason == "end of source" and not self.ledger.next_utterance:
            reason = "error: no speech was found"
            level = self._segmentation.loudest_dbfs
            if level <= SILENT_DBFS:
                reason += "; the sound is digital silence: is the source muted, or another track the right one?"
            elif level < QUIET_DBFS:
                reason += f"; the sound is very quiet (at most {level:.0f} dBFS): raise its volume and try again"
        ended = events.SessionEnded(
            id=f"{self._session}:ended",
            session=self._session,
            reason=reason,
            duration=self.position,
            utterances=self.ledger.next_utterance,
            failed=self.ledger.failed,
            counts=dict(every),
        )
        self.bus.publish(ended)
        if not await self.bus.aclose(patience):
            raise ConnectionError("Redis stayed away; the last events wait on this disk (undertone spool --send)")
        return ended

    def _watch_lag(self, lag: float) -> None:
        """Announce a lag of a second, and then each doubling, until it is made up."""
        self.lag = lag
        if lag >= max(1.0, 2 * self._lag_announced):
            self._lag_announced = lag
            self.bus.publish(
                events.Lag(id=self._notice_id(), session=self._session, audio_time=self.position, seconds=lag)
            )
        elif lag < 0.5:
            self._lag_announced = 0.0

    def _degraded(self, reason: str) -> events.Degraded:
        return events.Degraded(id=self._notice_id(), session=self._session, audio_time=self.position, reason=reason)

    def _notice_id(self) -> str:
        self.ledger.notices += 1
        return f"{self._session}:notice:{self.ledger.notices}"

    def _state(self) -> str:
        return self.ledger.snapshot(self.position, self._segmentation.counts)
