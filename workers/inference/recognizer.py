"""The owner of the conversations' graph states: one step an utterance, batched over sessions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from model.fusion.dialogue import GraphRow, UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller, Prediction, StepResult
from model.fusion.step import FusionStep, GraphState
from workers.session.services import GraphStateMissing

MAX_BATCH = 32  # utterances of one batch: a larger one is hardly faster, and who comes meanwhile waits for it


@dataclass
class _Conversation:
    state: GraphState
    last: StepResult | None = None


class EmotionRecognizer:
    """Labels utterances of many sessions; those that wait at the same time share one forward pass.

    Idempotent by utterance number: the last one may be asked for again, an unknown one raises GraphStateMissing.
    """

    def __init__(self, network: FusionStep) -> None:
        self._labeller = IncrementalLabeller(network)
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
        conversation = self._conversations.get(session)
        state = conversation.state if conversation else self._labeller.new_state()
        return self._labeller.step([state], [features], commit=False)[0].prediction if state.count == number else None

    def _run_batch(self) -> None:
        waiting, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        if not waiting:
            return
        try:
            conversations = [self._conversations[session] for session, _, _ in waiting]
            steps = self._labeller.step([c.state for c in conversations], [features for _, features, _ in waiting])
        except Exception as error:
            for _, _, done in waiting:
                done.set_exception(error)
            return
        for conversation, step, (_, _, done) in zip(conversations, steps, waiting, strict=True):
            conversation.last = step
            done.set_result(step)

    def restore(self, session: str, rows: list[GraphRow]) -> None:
        """Continue a conversation from the rows of its last W utterances."""
        self._conversations[session] = _Conversation(self._labeller.restore(rows))

    def finish(self, session: str, rows: list[GraphRow]) -> list[Prediction]:
        """The final labels still owed; the session is forgotten."""
        if session not in self._conversations:
            self.restore(session, rows)
        return self._labeller.finish(self._conversations.pop(session).state)
