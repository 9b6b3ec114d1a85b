"""Work that has begun is not begun again, and is thrown away when it was for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from stream.block import Utterance
from workers.session.stages.speculation import Discarded, SpeculativeResults


def utterance(end: float, channel: int = 0, samples: int = 10) -> Utterance:
    return Utterance(channel, 0.0, end, np.zeros(samples, np.float32), end + 0.2)


class Work:
    def __init__(self, seconds: float = 0.0, fails: int = 0) -> None:
        self.seconds, self.fails, self.begun, self.cancelled = seconds, fails, 0, 0

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.begun <= self.fails:
            raise RuntimeError("broke")
        return self.begun


async def test_an_answer_that_is_on_its_way_is_waited_for() -> None:
    ahead, work = SpeculativeResults(), Work(0.05)
    assert ahead.begin(utterance(1)) and not ahead.begin(utterance(1))
    early = asyncio.create_task(ahead.get_or_start(utterance(1), "words", work))
    await asyncio.sleep(0.01)
    assert await ahead.get_or_start(utterance(1), "words", work) == 1 == await early
    assert await ahead.get_or_start(utterance(1), "voice", work) == 2  # another question
    assert await ahead.get_or_start(utterance(1, channel=1), "words", work) == 3  # another channel
    assert await ahead.get_or_start(utterance(1, samples=20), "words", work) == 4  # the same end, heard on beyond it
    assert await ahead.get_or_start(utterance(1), "words", work) == 1


@pytest.mark.parametrize(
    "drop",
    [lambda ahead: ahead.begin(utterance(2)), lambda ahead: ahead.done(utterance(1))],
    ids=["speech goes on", "nobody will ask"],
)
async def test_what_is_not_needed_is_thrown_away(drop: Callable[[SpeculativeResults], object]) -> None:
    ahead, work = SpeculativeResults(), Work(5)
    ahead.begin(utterance(1))
    early = asyncio.create_task(ahead.get_or_start(utterance(1), "words", work))
    await asyncio.sleep(0.01)
    drop(ahead)
    with pytest.raises(Discarded):
        await early
    assert work.cancelled == 1
    assert await ahead.get_or_start(utterance(1), "words", Work()) == 1  # asked anew, not remembered


async def test_what_is_confirmed_is_not_thrown_away() -> None:
    """The next pause on the channel may come before the utterance is understood."""
    ahead, work = SpeculativeResults(), Work(0.05)
    ahead.begin(utterance(1))
    early = asyncio.create_task(ahead.get_or_start(utterance(1), "words", work))
    await asyncio.sleep(0.01)
    ahead.confirm(utterance(1))
    assert ahead.begin(utterance(2))
    assert await early == 1 == await ahead.get_or_start(utterance(1), "words", work)
    ahead.done(utterance(1))
    assert await ahead.get_or_start(utterance(1), "words", work) == 2  # forgotten


async def test_a_failure_is_asked_again() -> None:
    ahead, work = SpeculativeResults(), Work(fails=1)
    ahead.begin(utterance(1))
    with pytest.raises(RuntimeError):
        await ahead.get_or_start(utterance(1), "words", work)
    assert await ahead.get_or_start(utterance(1), "words", work) == 2


async def test_who_gives_up_waiting_stops_nobody_else() -> None:
    ahead, work = SpeculativeResults(), Work(0.1)
    ahead.begin(utterance(1))
    impatient = asyncio.create_task(ahead.get_or_start(utterance(1), "words", work))
    await asyncio.sleep(0.01)
    impatient.cancel()
    assert await ahead.get_or_start(utterance(1), "words", work) == 1 and not work.cancelled


async def test_who_is_cancelled_while_asking_is_cancelled() -> None:
    ahead, work = SpeculativeResults(), Work(5)
    ahead.begin(utterance(1))
    asking = asyncio.create_task(ahead.get_or_start(utterance(1), "words", work))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
