from __future__ import annotations

import pytest

from stream.bus.directory import SessionInfo
from stream.clock import VirtualClock
from stream.exports.summary import Summary, summary
from tests.support.conversations import started
from workers.gateway.summaries import KEPT_S, MAX_SUMMARIES, Summaries


def info(session: str, state: str = "ended", start: str = "2026-01-01T00:00:00Z") -> SessionInfo:
    return SessionInfo.model_construct(id=session, state=state, started=start)


class Maker:
    def __init__(self) -> None:
        self.made = 0

    async def __call__(self) -> Summary:
        self.made += 1
        return summary([started()])


async def test_they_are_bounded_and_expire() -> None:
    clock, make = VirtualClock(), Maker()
    kept = Summaries(clock)
    for number in range(MAX_SUMMARIES + 1):
        await kept.get(info(f"s{number}"), make)
    assert len(kept) == MAX_SUMMARIES
    await kept.get(info("s0"), make)
    assert make.made == MAX_SUMMARIES + 2, "the one that was used longest ago is gone"
    await clock.sleep(KEPT_S + 1)
    await kept.get(info("s0"), make)
    assert make.made == MAX_SUMMARIES + 3 and len(kept) == 1


@pytest.mark.parametrize("state", ["live", "lost"])
async def test_of_a_session_that_may_go_on_none_is_kept(state: str) -> None:
    kept = Summaries(VirtualClock())
    await kept.get(info("s", state), Maker())
    assert not len(kept)


async def test_an_id_that_is_used_again_is_another_session() -> None:
    kept, make = Summaries(VirtualClock()), Maker()
    await kept.get(info("s"), make)
    await kept.get(info("s", start="2026-02-01T00:00:00Z"), make)
    assert make.made == 2


async def test_a_session_that_is_forgotten_while_it_is_summarized_is_not_kept() -> None:
    kept = Summaries(VirtualClock())

    async def make() -> Summary:
        kept.forget("s")
        return summary([started()])

    await kept.get(info("s"), make)
    assert not len(kept)
