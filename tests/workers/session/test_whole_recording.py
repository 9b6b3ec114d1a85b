from __future__ import annotations

import asyncio
import threading
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stream.block import RATE, Block
from stream.errors import MediaError
from stream.events import Event, SessionEnded
from stream.sources.base import Source, SourceWrapper
from stream.sources.file import FileSource, read_audio
from stream.speech.endpointing import Endpointing
from stream.speech.segmenter import TurnSegmenter
from stream.speech.turns import Turn
from tests.support.backend import LocalBackend
from tests.support.recordings import voice, write_wav
from workers.session import runner
from workers.session.opening import OpenSession, open_session
from workers.session.runner import SessionError, run_session
from workers.session.settings import SessionSettings
from workers.session.whole_recording import find_turns


async def opened(source: Source, speed: float | None = None, **settings: object) -> OpenSession:
    wanted = SessionSettings(asr="none", modalities=("audio",), **settings)  # type: ignore[arg-type]
    return await open_session(wanted, source, lambda plan, needs: LocalBackend(), None, speed=speed)


class Kept:
    """All events of a session."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def position(self, seconds: float) -> None:
        pass


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """One voice for a minute."""
    return write_wav(tmp_path / "long.wav", np.tile(voice(6), 10)[None])


async def test_it_is_for_people_on_one_channel_of_a_file_that_is_played_as_fast_as_it_goes(
    long: Path, tmp_path: Path
) -> None:
    assert (await opened(FileSource(long))).plan.first_pass
    plan = (await opened(SourceWrapper(FileSource(long)), people="2-3")).plan
    assert plan.first_pass and str(plan.encoders["speaker"]).endswith("clustered; people: 2-3, in a first pass")
    turns = tmp_path / "turns.rttm"
    turns.write_text("SPEAKER long 1 0.5 2.0 <NA> <NA> Ann <NA> <NA>\n")
    split = FileSource(write_wav(tmp_path / "split.wav", np.stack([voice(2), voice(2, seed=1)])), "split")
    for opening in (
        opened(FileSource(long), speed=10.0),
        opened(FileSource(long), vad="silero"),
        opened(FileSource(long), rttm=turns, vad="pyannote"),
        opened(split),
    ):
        plan = (await opening).plan
        assert not plan.first_pass and "first pass" not in (plan.encoders["speaker"] or "")


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_a_session_that_is_stopped_meanwhile_ends_at_once(long: Path, how: str) -> None:
    session = await opened(FileSource(long))
    listening, kept, interrupted = threading.Event(), Kept(), asyncio.Event()
    work = asyncio.create_task(
        run_session(
            session.session, session.source, None, [kept], interrupted, listened_to=lambda seconds: listening.set()
        )
    )
    assert await asyncio.to_thread(listening.wait, 10)
    stopped = time.monotonic()
    if how == "stopped":
        interrupted.set()
        session.source.stop()
        ended = await work
    else:
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        (ended,) = (event for event in kept.events if isinstance(event, SessionEnded))
    assert time.monotonic() - stopped < 3
    assert (ended.reason, ended.utterances, ended.duration, ended.counts) == ("interrupted", 0, 0, {})


@pytest.mark.parametrize(
    ("error", "told"),
    [(MediaError("gone"), "error: gone"), (MemoryError("full"), "it is not found who speaks when: MemoryError: full")],
)
async def test_what_fails_in_it_is_told(
    long: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*_: object) -> object:
        raise error

    monkeypatch.setattr(runner, "find_turns", fail)
    session, kept = await opened(FileSource(long)), Kept()
    with nullcontext() if isinstance(error, MediaError) else pytest.raises(SessionError, match=told):
        await run_session(session.session, session.source, None, [kept], asyncio.Event())
    ended = kept.events[-1]
    assert isinstance(ended, SessionEnded) and ended.reason.endswith(told)


def test_silence_has_no_turns() -> None:
    blocks = [Block(n, float(n), np.zeros((1, RATE), np.float32)) for n in range(12)]
    assert find_turns(blocks) == []
    assert find_turns([]) == []


def test_where_only_others_speak_a_turn_is_silent() -> None:
    segmenter = TurnSegmenter([Turn(1.0, 3.0, "Ann", silenced=((1.5, 2.0), (9.0, 9.5)))], Endpointing())
    (utterance,) = [*segmenter.push(np.ones(4 * RATE, np.float32)), *segmenter.flush()]
    sound = utterance.samples
    assert (
        len(sound) == 2 * RATE
        and sound[: RATE // 3].min() == pytest.approx(1)
        and sound[-RATE // 2 :].min() == pytest.approx(1)
    )
    assert np.abs(sound[round(0.52 * RATE) : round(0.98 * RATE)]).max() < 1e-6


@pytest.mark.data
def test_two_who_cut_in_on_each_other_are_told_apart(data: Path) -> None:
    call = data / "conversations" / "telephone" / "sample.wav"
    positions: list[float | None] = []
    turns = find_turns(FileSource(call, "mix"), people=(2, 2), listened_to=positions.append)
    assert {turn.speaker for turn in turns} == {"speaker 1", "speaker 2"}
    assert [turn.end for turn in turns] == sorted(turn.end for turn in turns)
    assert any(one.end - other.start > 0.2 for one, other in pairwise(turns)), "they overlap"
    assert positions == pytest.approx([n / 25 for n in range(1, 751)])
    whole = Block(0, 0.0, read_audio(call))
    again = find_turns([whole], people=(2, 2))
    assert [(turn.start, turn.end, turn.speaker) for turn in again] == [
        (turn.start, turn.end, turn.speaker) for turn in turns
    ]
