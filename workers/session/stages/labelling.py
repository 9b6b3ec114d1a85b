"""Stage 4, label: one step of the graph an utterance, in order."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence

from model.fusion.config import FusionConfig
from model.fusion.dialogue import GraphRow, SpeakerMemory, UtteranceFeatures
from model.fusion.experts import MODALITY_OF
from model.fusion.incremental import Prediction
from stream.clock import Clock
from stream.events import NOT_ANALYSED, Emotion, Latency, Modalities
from workers.errors import WorkersError
from workers.session.event_factory import EventFactory, revised
from workers.session.services import GraphStateMissing, InferenceBackend, SessionPlan
from workers.session.snapshot import GraphRowRecord, Memory
from workers.session.utterance import AdmittedUtterance, LabelledUtterance, UnderstoodUtterance

NO_WORDS = "no words were recognized"
OVERLOADED = "left out, the machine was overloaded"


class Unlabelled(WorkersError):
    """An utterance has too little to label it by; the message says why."""


class Labelling:
    """Labels utterances with the recognizer's help, and remembers what later ones need."""

    def __init__(
        self, plan: SessionPlan, config: FusionConfig, backend: InferenceBackend, events: EventFactory, clock: Clock
    ) -> None:
        self._plan, self._config, self._backend, self._events, self._clock = plan, config, backend, events, clock
        self._memory = SpeakerMemory(config.prosody, config.window)
        self._rows: deque[GraphRow] = deque(maxlen=config.window)
        self._provisional: dict[int, Emotion] = {}  # by number in the graph, the last W + R
        self._count = 0

    @property
    def rows_needed(self) -> int:
        """Number of rows that are saved: W for attention, R for final labels that are owed."""
        return self._config.window + self._config.revision

    def snapshot(self) -> Memory:
        """Memory of the speakers, for later utterances; the rows are apart."""
        slots, voices = self._memory.dump()
        return Memory(in_graph=self._count, slots=slots, voices=voices)

    def restore(self, memory: Memory, rows: Sequence[GraphRowRecord]) -> None:
        """Go on after what another process labelled."""
        self._memory.restore(memory.slots, memory.voices)
        self._rows.extend(row.graph() for row in rows)
        self._provisional = {row.index: row.told for row in rows}
        self._count = memory.in_graph if rows else 0

    async def label(
        self, admitted: AdmittedUtterance, understood: UnderstoodUtterance, publish_delay_s: float
    ) -> LabelledUtterance:
        """The utterance's label, and the final label of an earlier one that is due now.

        publish_delay_s: seconds that an event takes to Redis, as far as is known. Raises Unlabelled, ServiceError and
        whatever else the backend raises.
        """
        features, modalities = self._gather(admitted, understood, self._memory)
        if not modalities.used:
            raise Unlabelled(_nothing_to_go_by(understood))
        if admitted.cut_off and modalities.reasons.get("text") == NO_WORDS:  # a piece of a voice is no utterance
            raise Unlabelled("the session was stopped before any of its words were recognized")
        started, session, number = self._clock.now(), self._plan.session, self._count
        try:
            step = await self._backend.label(session, number, features)
        except GraphStateMissing:
            await self._backend.restore(session, list(self._rows))
            step = await self._backend.label(session, number, features)
        self._count += 1
        latency = Latency(
            vad=admitted.utterance.confirmed - admitted.utterance.end,
            queue=understood.queue_s,
            asr=understood.words.asr_s,
            encode=understood.encode_s,
            graph=self._clock.now() - started,
            publish=publish_delay_s,
        )
        self._rows.append(step.row)
        prediction = step.prediction
        emotion = self._events.emotion(
            admitted, understood, prediction, modalities, self._influences(prediction), latency
        )
        self._provisional[number] = emotion
        self._provisional.pop(number - self.rows_needed, None)
        final = None if step.final is None else self._revised(step.final)
        return LabelledUtterance(emotion, GraphRowRecord.of(step.row, emotion), final)

    async def preview(
        self, admitted: AdmittedUtterance, understood: UnderstoodUtterance, interim: int
    ) -> Emotion | None:
        """Interim label number `interim` of an utterance that goes on; the graph and its memory stay as they are."""
        features, modalities = self._gather(admitted, understood, copy.deepcopy(self._memory))
        if not modalities.used:
            return None
        prediction = await self._backend.preview(self._plan.session, self._count, features)
        if prediction is None:
            return None
        influences = self._influences(prediction)
        return self._events.emotion(admitted, understood, prediction, modalities, influences, interim=interim)

    async def finish(self) -> list[Emotion]:
        """The final labels that are still owed."""
        if not self._count:
            return []
        owed = await self._backend.finish(self._plan.session, list(self._rows))
        return [self._revised(final) for final in owed if final.number in self._provisional]

    def _revised(self, final: Prediction) -> Emotion:
        return revised(self._provisional[final.number], final, self._influences(final))

    def _gather(
        self, admitted: AdmittedUtterance, understood: UnderstoodUtterance, memory: SpeakerMemory
    ) -> tuple[UtteranceFeatures, Modalities]:
        """The utterance as the network reads it, and the modalities that are used and missing."""
        words, posteriors = understood.words, understood.expert_posteriors
        embeddings = {} if words.embedding is None else {"text": words.embedding}
        features = memory.add(admitted.speaker, embeddings, understood.prosody, posteriors)
        of_experts = {MODALITY_OF[expert] for expert in posteriors}
        wanted = (*self._config.modalities, *(["visual"] if self._plan.encoders.get("visual") else []))
        used = [name for name in wanted if name in features.features or name in of_experts]
        missing = [name for name in wanted if name not in used]
        reasons = {name: self._reason(name, understood) for name in missing}
        return features, Modalities(used=used, missing=missing, reasons=reasons)

    def _reason(self, modality: str, understood: UnderstoodUtterance) -> str:
        """The reason why the label does not rest on a modality."""
        words, face = understood.words, understood.face
        if modality in understood.errors:
            return understood.errors[modality]
        if modality not in self._plan.modalities or not self._plan.encoders.get(modality):
            return NOT_ANALYSED
        if modality == "audio":
            return "too short, or nothing that could be measured"
        if modality == "visual":
            return OVERLOADED if face is None else face.reason or "the checkpoint has no weight for faces"
        if words.left_out:
            return OVERLOADED
        if words.transcription.text:
            return f"language: {words.foreign}"
        if self._plan.transcript is not None:
            return "the transcript has no words here"
        return NO_WORDS if self._plan.encoders.get("asr") else NOT_ANALYSED

    def _influences(self, prediction: Prediction) -> dict[int, float]:
        """By the number that events give an utterance; in the graph, those that failed do not count."""
        known = self._provisional
        return {known[n].utterance: share for n, share in prediction.influences.items() if n in known}


def _nothing_to_go_by(understood: UnderstoodUtterance) -> str:
    foreign = understood.words.foreign
    words = f"the words' language ({foreign}) is not read" if foreign else "no words were understood"
    reason = f"nothing to go by: {words}, and neither voice nor face could be judged"
    return "; ".join([*understood.errors.values(), reason])
