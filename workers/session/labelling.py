"""The graph's side of a session: what the network reads of an utterance, what it says of it, and what that leaves."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Sequence

from model.fusion.config import FusionConfig
from model.fusion.dialogue import GraphRow, SpeakerMemory, UtteranceFeatures
from model.fusion.experts import MODALITY_OF
from model.fusion.incremental import Prediction
from stream import events
from workers.errors import WorkersError
from workers.session.services import GraphStateMissing, InferenceBackend, SessionPlan
from workers.session.snapshot import GraphRowRecord, Memory
from workers.session.utterance import UtteranceInProgress, revised


class Unlabelled(WorkersError):
    """There is nothing to label an utterance by; the message says why."""


class Labelling:
    """Labels a session's utterances one after the other, with the recognizer's help."""

    def __init__(self, plan: SessionPlan, config: FusionConfig, helpers: InferenceBackend) -> None:
        self._plan, self._config, self._helpers = plan, config, helpers
        self._memory = SpeakerMemory(config.prosody, config.window)
        self._rows: deque[GraphRow] = deque(maxlen=config.window)
        self._told: dict[int, events.Emotion] = {}  # by number in the graph, the last W + R
        self._count = 0

    @property
    def kept(self) -> int:
        """Utterances of which later ones need something."""
        return self._config.window + self._config.revision

    def dump(self) -> Memory:
        """What later utterances need, but for the rows that `label` gives."""
        slots, voices = self._memory.dump()
        return Memory(in_graph=self._count, slots=slots, voices=voices)

    def restore(self, memory: Memory, rows: Sequence[GraphRowRecord]) -> None:
        """Go on after what another process labelled."""
        self._memory.restore(memory.slots, memory.voices)
        self._rows.extend(row.graph() for row in rows)
        self._told = {row.index: row.told for row in rows}
        self._count = memory.in_graph if rows else 0

    async def label(self, pending: UtteranceInProgress, delay: float) -> tuple[GraphRowRecord, events.Emotion | None]:
        """The utterance's label, with what it leaves, and the final label that is due now.

        delay: seconds that an event takes to Redis, as far as is known. Raises Unlabelled, and whatever the recognizer
        raises.
        """
        heard = self._gather(pending, self._memory)
        if not pending.used:
            words = (
                f"the words' language ({pending.foreign}) is not read"
                if pending.foreign
                else "no words were understood"
            )
            reason = f"nothing to go by: {words}, and neither voice nor face could be judged"
            raise Unlabelled("; ".join([*pending.broken, reason]))
        started, session, number = time.monotonic(), self._plan.session, self._count
        try:
            step = await self._helpers.label(session, number, heard)
        except GraphStateMissing:
            await self._helpers.restore(session, list(self._rows))
            step = await self._helpers.label(session, number, heard)
        self._count += 1
        latency = events.Latency(
            vad=pending.utterance.confirmed - pending.utterance.end,
            queue=pending.queue,
            asr=pending.asr,
            encode=pending.encode,
            graph=time.monotonic() - started,
            publish=delay,
        )
        self._rows.append(step.row)
        told = self._told[number] = pending.emotion(step.judgement, self._influences(step.judgement), latency)
        self._told.pop(number - self.kept, None)
        return GraphRowRecord.of(step.row, told), None if step.final is None else self._revised(step.final)

    async def preview(self, pending: UtteranceInProgress, interim: int) -> events.Emotion | None:
        """The label so far of an utterance that goes on, told for the `interim`-th time; nothing is kept."""
        heard = self._gather(pending, copy.deepcopy(self._memory))
        if not pending.used:
            return None
        judgement = await self._helpers.preview(self._plan.session, self._count, heard)
        return None if judgement is None else pending.emotion(judgement, self._influences(judgement), interim=interim)

    async def finish(self) -> list[events.Emotion]:
        """The final labels that are still owed."""
        if not self._count:
            return []
        owed = await self._helpers.finish(self._plan.session, list(self._rows))
        return [self._revised(final) for final in owed if final.number in self._told]

    def _revised(self, final: Prediction) -> events.Emotion:
        return revised(self._told[final.number], final, self._influences(final))

    def _gather(self, pending: UtteranceInProgress, memory: SpeakerMemory) -> UtteranceFeatures:
        """The utterance as the network reads it; notes which modalities that is, and which are missing."""
        embeddings = {} if pending.embedding is None else {"text": pending.embedding}
        heard = memory.add(pending.speaker, embeddings, pending.prosody, pending.opinions)
        opining = {MODALITY_OF[expert] for expert in pending.opinions}
        wanted = (*self._config.modalities, *(["visual"] if self._plan.encoders.get("visual") else []))
        pending.used = [name for name in wanted if name in heard.features or name in opining]
        pending.missing = [name for name in wanted if name not in pending.used]
        return heard

    def _influences(self, judgement: Prediction) -> dict[int, float]:
        """By the number that events give an utterance; in the graph, those that failed do not count."""
        return {self._told[n].utterance: share for n, share in judgement.influences.items() if n in self._told}
