"""Sessions in this process, without Redis and Ray, as programs run them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import undertone

from stream.block import RATE
from stream.events import Emotion, Event, SessionEnded, SessionStarted, parse
from tests.support.paths import DEMO, DEMO_TRANSCRIPT, ROOT
from tests.support.recordings import voice, write_wav
from workers.api import sessions

pytestmark = pytest.mark.integration  # they load the shipped encoders

SETTINGS = undertone.Settings(transcript=DEMO_TRANSCRIPT)


def labels(events: list[Event]) -> list[tuple[str, dict[str, float]]]:
    """Labels that do not depend on the pace, by their ids without the session."""
    return [
        (event.id.removeprefix(event.session), event.probabilities)
        for event in events
        if isinstance(event, Emotion) and event.trigger != "interval"
    ]


def assert_same(one: list[Event], other: list[Event]) -> None:
    assert len(labels(one)) == 28  # 14 utterances, each provisional and final
    assert sorted(key for key, _ in labels(one)) == sorted(key for key, _ in labels(other))
    others = dict(labels(other))
    for key, probabilities in labels(one):
        assert probabilities == pytest.approx(others[key], abs=1e-5), key


@pytest.fixture(scope="module")
def whole() -> list[Event]:
    """The events of the demo conversation, with its words given."""
    return list(undertone.analyse(DEMO, settings=SETTINGS))


def session_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "undertone-session"]


def test_a_recording_is_analysed_without_a_server(whole: list[Event]) -> None:
    assert whole[0].type == "session.started" and isinstance(whole[-1], SessionEnded)
    assert whole[-1].reason == "end of source" and whole[-1].utterances == 14 and not whole[-1].failed
    said = [event.text for event in whole if isinstance(event, Emotion) and event.trigger == "speech_ended"]
    assert said == [line.split(maxsplit=5)[5] for line in DEMO_TRANSCRIPT.read_text().splitlines()]
    assert not session_threads()


def test_the_labels_are_those_of_replay(whole: list[Event]) -> None:
    """As its golden file has them, over Ray's actors and Redis."""
    golden = [parse(line) for line in (ROOT / "tests" / "golden" / "file.jsonl").read_text().splitlines()]
    assert_same(golden, whole)


async def test_samples_are_a_recording_and_a_program_may_have_a_loop(
    whole: list[Event], demo_audio: np.ndarray
) -> None:
    """As in a notebook."""
    settings = SETTINGS.model_copy(update={"session": "an-array"})
    events = list(undertone.analyse(demo_audio, RATE, settings))
    assert {event.session for event in events} == {"an-array"}
    assert_same(whole, events)


async def test_what_is_pushed_gets_the_labels_of_the_recording(whole: list[Event], demo_audio: np.ndarray) -> None:
    """And no label waits for what is pushed later than its utterance's end is certain."""
    events: list[Event] = []
    pushed_s = 0.0
    labelled_when: dict[int, float] = {}
    async with undertone.listen(RATE, 2, SETTINGS) as session:

        async def push() -> None:
            nonlocal pushed_s
            for first in range(0, demo_audio.shape[1], RATE // 10):
                await session.push(demo_audio[:, first : first + RATE // 10])
                pushed_s = first / RATE
                if pushed_s == 20.0:
                    while len(labelled_when) < 4:  # those that have ended by then
                        await asyncio.sleep(0.01)
            session.end()

        pushing = asyncio.create_task(push())
        async for event in session:
            events.append(event)
            if isinstance(event, Emotion) and event.trigger == "speech_ended":
                labelled_when[event.utterance] = pushed_s
        await pushing
    assert [when <= 20.0 for when in list(labelled_when.values())[:4]] == [True] * 4
    assert isinstance(events[-1], SessionEnded) and events[-1].session == session.session
    assert_same(whole, events)


def test_leaving_the_loop_ends_the_session() -> None:
    for event in undertone.analyse(DEMO, settings=SETTINGS):
        if event.type == "emotion":
            break
    assert not session_threads()


async def test_leaving_the_block_ends_the_session(demo_audio: np.ndarray) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with undertone.listen(RATE, 2, SETTINGS) as session:
            await session.push(demo_audio[:, : 4 * RATE])
            assert (await anext(session)).type == "session.started"
            _ = 1 / 0
    async with asyncio.timeout(10):
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.01)
    with pytest.raises(undertone.UsageError, match="takes no more samples"):
        await session.push(demo_audio[:, :RATE])


def test_a_program_that_does_not_read_holds_the_analysis(
    whole: list[Event], monkeypatch: pytest.MonkeyPatch, demo_audio: np.ndarray
) -> None:
    monkeypatch.setattr(sessions, "MAX_UNREAD_EVENTS", 2)
    blocks = 0

    class Counted(sessions._HeldSource):
        def __iter__(self) -> Iterator[object]:
            nonlocal blocks
            for block in super().__iter__():
                blocks += 1
                yield block

    monkeypatch.setattr(sessions, "_HeldSource", Counted)
    reading = undertone.analyse(demo_audio, RATE, SETTINGS)
    events = [next(reading)]
    while True:  # it goes no further
        count = blocks
        time.sleep(1.0)
        if count == blocks:
            break
    assert blocks < demo_audio.shape[1] / 640 / 2
    assert_same(whole, [*events, *reading])


def test_what_breaks_is_an_exception_of_one_line(tmp_path: Path) -> None:
    for recording, words in (
        (tmp_path / "absent.wav", "absent.wav: no such file"),
        (tmp_path, "is a folder, not a recording"),
    ):
        with pytest.raises(undertone.MediaError, match=words):
            undertone.analyse(recording)
    with pytest.raises(undertone.UsageError, match="rate: say how many samples a second"):
        undertone.analyse(np.zeros(100, np.float32))
    with pytest.raises(undertone.UsageError, match="a file says it itself"):
        undertone.analyse(DEMO, 16_000)
    with pytest.raises(undertone.UsageError, match="--modalities"):
        list(undertone.analyse(DEMO, settings=undertone.Settings(modalities=(), asr="none")))
    silent = write_wav(tmp_path / "silent.wav", np.zeros((1, 2 * RATE), np.float32))
    events: list[Event] = []
    with pytest.raises(undertone.SessionError, match="no speech was found; the sound is digital silence"):
        events.extend(undertone.analyse(silent, settings=undertone.Settings(asr="none")))
    assert events[-1].type == "session.ended"
    with pytest.raises(undertone.ERRORS):
        list(undertone.analyse(DEMO, settings=undertone.Settings(asr="none", checkpoint="absent")))
    assert not session_threads()


async def test_a_block_that_cannot_begin_says_why() -> None:
    with pytest.raises(undertone.ERRORS, match="absent"):
        async with undertone.listen(RATE, settings=undertone.Settings(asr="none", checkpoint="absent")):
            pass
    with pytest.raises(undertone.UsageError, match="rate"):
        undertone.listen(0)


def test_leaving_a_recording_while_it_is_found_who_speaks(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "long.wav", np.tile(voice(6), 100)[None])
    settings = undertone.Settings(asr="none", modalities=("audio",))
    events = undertone.analyse(path, settings=settings)
    first = next(events)
    assert isinstance(first, SessionStarted) and "in a first pass" in (first.encoders["speaker"] or "")
    left = time.monotonic()
    events.close()
    assert time.monotonic() - left < 10 and not session_threads()
    paced = next(undertone.analyse(path, settings=settings, speed=1000))
    assert isinstance(paced, SessionStarted) and "first pass" not in (paced.encoders["speaker"] or "")
