"""The owner of the conversations' graph states: one step an utterance, batched over sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from model.device import Device, fell_back
from model.fusion.checkpoint import CheckpointError, load_step
from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller, Prediction, StepResult
from model.fusion.step import FusionStep, GraphState
from workers.session.services import GraphStateMissing

Answer = TypeVar("Answer")

NAME = "emotion model"
MAX_BATCH = 32  # utterances of one batch: a larger one is hardly faster, and who comes meanwhile waits for it


@dataclass
class _Conversation:
    state: GraphState
    last: StepResult | None = None


def load_recognizer(checkpoint: str, device: Device) -> EmotionRecognizer:
    """The recognizer of a checkpoint on a device, or on the CPU where that cannot be used. Raises CheckpointError."""
    try:
        network = load_step(checkpoint, device)
    except CheckpointError as error:
        if device == "cpu":
            raise
        recognizer = EmotionRecognizer(load_step(checkpoint))
        recognizer.fault = fell_back(NAME, error)
        return recognizer
    return EmotionRecognizer(network, None if device == "cpu" else lambda: load_step(checkpoint))


class EmotionRecognizer:
    """Labels utterances of many sessions; those that wait at the same time share one forward pass.

    Idempotent by utterance number: the last one may be asked for again, an unknown one raises GraphStateMissing.
    """

    def __init__(self, network: FusionStep, on_cpu: Callable[[], FusionStep] | None = None) -> None:
        """on_cpu: loads the same network for the CPU, where `network` is on a GPU. If that fails, all states are lost,
        and whoever asks restores its own."""
        self._labeller, self._on_cpu = IncrementalLabeller(network), on_cpu
        self.fault: str | None = None
        """`model.device.fell_back`, once it has."""
        self._conversations: dict[str, _Conversation] = {}
        self._waiting: list[tuple[str, UtteranceFeatures, asyncio.Future[StepResult]]] = []

    async def label(self, session: str, number: int, features: UtteranceFeatures) -> StepResult:
        """The labels of the session's utterance `number` (from 0, without gaps). Raises GraphStateMissing."""
        if number == 0 and session not in self._conversations:
            self._conversations[session] = _Conversation(self._labeller.new_state())
        conversation = self._conversations.get(session)
        if conversation is None or number not in (conversation.state.count, conversation.state.count - 1):
            raise GraphStateMissing(session)
        if number == conversation.state.count - 1:
            if conversation.last is None:
                raise GraphStateMissing(session)
            return conversation.last
        done: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((session, features, done))
        await asyncio.sleep(0)  # whoever is ready in this turn of the loop joins the batch
        while not done.done():
            self._run_batch()
            await asyncio.sleep(0)
        return done.result()

    def preview(self, session: str, number: int, features: UtteranceFeatures) -> Prediction | None:
        """The label that the session's next utterance, `number`, would get; the graph stays as it is.

        None when the state is not there: an interim label is not worth restoring it.
        """

        def label() -> Prediction | None:
            conversation = self._conversations.get(session)
            state = conversation.state if conversation else self._labeller.new_state()
            if state.count != number:
                return None
            return self._labeller.step([state], [features], commit=False)[0].prediction

        return self._on_either(label)

    def _run_batch(self) -> None:
        waiting, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        if not waiting:
            return
        try:
            conversations = [self._conversations[session] for session, _, _ in waiting]
            steps = self._labeller.step([c.state for c in conversations], [features for _, features, _ in waiting])
        except Exception as error:
            fallen = self._falls_back(error)
            for session, _, done in waiting:
                done.set_exception(GraphStateMissing(session) if fallen else error)
            return
        for conversation, step, (_, _, done) in zip(conversations, steps, waiting, strict=True):
            conversation.last = step
            done.set_result(step)

    def restore(self, session: str, rows: list[GraphRow]) -> None:
        """Continue a conversation from the rows of its last W utterances."""
        self._conversations[session] = _Conversation(self._on_either(lambda: self._labeller.restore(rows)))

    def finish(self, session: str, rows: list[GraphRow]) -> list[Prediction]:
        """The final labels still owed; the session is forgotten."""

        def owed() -> list[Prediction]:
            if session not in self._conversations:
                self.restore(session, rows)
            return self._labeller.finish(self._conversations.pop(session).state)

        return self._on_either(owed)

    def _on_either(self, work: Callable[[], Answer]) -> Answer:
        """The result of `work`, on the CPU where the GPU fails meanwhile."""
        try:
            return work()
        except Exception as error:
            if not self._falls_back(error):
                raise
            return work()

    def _falls_back(self, error: Exception) -> bool:
        """Go on with the CPU after an error of a GPU; True if so, and then there are no conversations any more."""
        if self._on_cpu is None or not isinstance(error, RuntimeError):  # PyTorch's own
            return False
        try:
            self._labeller = IncrementalLabeller(self._on_cpu())
        except CheckpointError:
            return False
        self._on_cpu, self.fault = None, fell_back(NAME, error)
        self._conversations.clear()
        for session, _, done in self._waiting:
            done.set_exception(GraphStateMissing(session))
        self._waiting.clear()
        return True
