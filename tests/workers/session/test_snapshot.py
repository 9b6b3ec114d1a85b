"""A session whose process is gone, taken up by another: the same labels, each utterance accounted for. Real Redis."""

from __future__ import annotations

import asyncio
import copy
import random
from binascii import crc32
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.labels import RAVDESS
from stream.block import RATE, Block, Utterance
from stream.bus.connection import read_state
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import history
from stream.events import Degraded, Emotion, Event, SessionEnded, SessionStarted, UtteranceFailed, UtteranceHeard
from stream.speech.transcript import read_transcript
from tests.support.backend import MODEL, LocalBackend, blocks, numbers, plan
from tests.support.paths import DEMO_TRANSCRIPT
from workers.inference.recognizer import EmotionRecognizer
from workers.session.diarization import SpeakerSegment, Stretches
from workers.session.ledger import UtteranceLedger
from workers.session.services import SessionPlan
from workers.session.session import Session
from workers.session.snapshot import InterimSnapshot, Memory, Milestone, Snapshot, load_resume_point
from workers.session.stages.interims import Interims
from workers.session.stages.ongoing import restored
from workers.session.utterance import AdmittedUtterance, InFlight, SpokenLine, UnderstoodUtterance


async def understood() -> UnderstoodUtterance:
    return UnderstoodUtterance()


def seeded(samples: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(crc32(samples.tobytes()))


class Repeatable(LocalBackend):
    """What it says of an utterance depends on the utterance alone, and on what the text encoder reads along."""

    def __init__(self) -> None:
        super().__init__()
        self.understood = 0

    async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
        self.understood += 1
        await asyncio.sleep(self.rng.uniform(0, 0.01))
        return Transcription(f"words {seeded(samples).integers(1000)}")

    async def embed(self, lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(crc32(repr(lines).encode()))
        return rng.normal(size=MODEL.config.inputs["text"]).astype(np.float32), rng.dirichlet(np.ones(7)).astype(
            np.float32
        )

    async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
        rng = seeded(samples)
        prosody, expression = rng.normal(size=7), rng.dirichlet(np.ones(len(RAVDESS)))
        return prosody.astype(np.float32), VoiceObservation(expression=expression.astype(np.float32))

    async def speaker_segments(self, samples: np.ndarray, alone: Stretches | None) -> list[SpeakerSegment]:
        rng, length = seeded(samples), len(samples) / RATE
        cuts = [0.0, length / 2, length] if length > 3 else [0.0, length]
        return [SpeakerSegment(a, b, self._voice(rng), b - a) for a, b in pairwise(cuts)]

    def _voice(self, rng: np.random.Generator) -> np.ndarray:
        who = np.random.default_rng(int(rng.integers(3))).normal(size=256) + rng.normal(0, 0.5, 256)
        return (who / np.linalg.norm(who)).astype(np.float32)


def kinds(audio: np.ndarray) -> dict[str, tuple[SessionPlan, np.ndarray]]:
    """One plan for each way in which a session tells speakers and words."""
    given = read_transcript(DEMO_TRANSCRIPT, "conversation")
    silent = {"asr": None, "text": "test", "audio": "test", "visual": None, "vad": "webrtc"}
    mono = audio.mean(0, keepdims=True)
    overlapping = audio[:1] + np.roll(audio[1:], -2 * RATE, 1)
    return {
        "channels": (plan(), audio),
        "interim labels": (plan(interim=0.5), audio),
        "one microphone": (plan(channels=1, speakers="cluster", interim=1.0), mono),
        "two at once": (plan(channels=1, speakers="cluster", vad="pyannote", interim=1.0), overlapping),
        "transcript": (plan(transcript=given, encoders=silent), audio),
        "turns": (plan(channels=1, speakers="turns", turns=tuple(given.turns())), mono),
        "redacted": (plan(redact=True), audio),
    }


async def play(session: Session, pieces: list[Block]) -> None:
    for block in pieces:
        if block.start + block.samples.shape[1] / RATE <= session.resume_position:
            session.skip(block)
        else:
            await session.push(block)
            await asyncio.sleep(0.002)


async def kill(session: Session) -> None:
    """As `kill -9` leaves it: nothing more is labelled or sent."""
    session.close()
    await session.bus.stop()
    await session.bus._client.aclose()  # as the system closes what a process had open


async def carried(
    url: str, made: SessionPlan, audio: np.ndarray, kills: list[int], forgetful: bool = False
) -> tuple[list[Event], int]:
    """The events of a session that is killed after so many blocks, each time anew; and how often words were asked
    for. `forgetful`: the recognizer dies with it."""
    helpers, pieces = Repeatable(), blocks(audio)
    for at in [*kills, None]:
        fresh = copy.deepcopy(made)  # a transcript gives its words once
        session = Session(fresh, MODEL.config, helpers, Bus(url, Keys(made.session)))
        left = await load_resume_point(url, session.bus.keys)
        if left is not None:
            session.resume(left, replayed=True)
        await session.start()
        await play(session, pieces[:at])
        if at is None:
            await session.finish("end of source")
        else:
            await kill(session)
        if forgetful:
            helpers.recognizer = EmotionRecognizer(MODEL)
    return await history(url, made.session), helpers.understood


def told(events: list[Event], revision: int) -> dict[int, tuple[object, ...]]:
    """By utterance, what was said of it, once even where it was said twice."""
    return {
        e.utterance: (e.speaker, e.audio_start, e.audio_end, e.text, e.probabilities, e.influences, e.contribution)
        for e in events
        if isinstance(e, Emotion) and e.revision == revision and e.trigger != "interval"
    }


@pytest.mark.parametrize("kind", ["channels", "interim labels", "one microphone", "transcript", "turns"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_killed_session_goes_on_as_if_nothing_had_happened(
    redis_url: str, demo_audio: np.ndarray, kind: str, seed: int
) -> None:
    made, audio = kinds(demo_audio)[kind]
    undisturbed, _ = await carried(redis_url, made, audio, [])
    rng = random.Random(seed)
    kills = sorted(rng.sample(range(40, len(blocks(audio))), 3))
    made, audio = kinds(demo_audio)[kind]
    disturbed, _ = await carried(redis_url, made, audio, kills, forgetful=seed % 2 == 1)
    assert numbers(disturbed, 0)
    for revision in (0, 1):
        assert told(disturbed, revision) == told(undisturbed, revision)
    ended, otherwise = disturbed[-1], undisturbed[-1]
    assert isinstance(ended, SessionEnded)
    assert isinstance(otherwise, SessionEnded)
    assert (ended.utterances, ended.failed, ended.counts) == (otherwise.utterances, otherwise.failed, otherwise.counts)
    assert sum(isinstance(event, SessionStarted) for event in disturbed) == 1
    assert sum(isinstance(e, Degraded) and "another process goes on" in e.reason for e in disturbed) == 3
    order = [e.utterance for e in disturbed if isinstance(e, UtteranceHeard)]
    assert order == sorted(order)
    assert await read_state(redis_url, Keys(made.session)) == (None, [])


async def test_what_was_told_while_somebody_talked_is_kept(redis_url: str, demo_audio: np.ndarray) -> None:
    """Its number, how often it was told of, and which words were stable; none of redacted ones."""
    told = {}
    for redact in (False, True):
        made, pieces = plan(interim=0.5, redact=redact), blocks(demo_audio)
        session = Session(made, MODEL.config, Repeatable(), Bus(redis_url, Keys(made.session)))
        await session.start()
        for n in range(126):
            await play(session, pieces[n : n + 1])
            await asyncio.sleep(0.05 if n > 110 else 0)
        open_now = session.ongoing._interims.states
        assert open_now and open_now[0].count > 1
        read = InterimSnapshot.model_validate_json(session.ongoing.snapshot()[0].model_dump_json())
        again = Interims(0.5, words=True)
        again.restore([restored(read)])
        (state,) = again.states
        assert (state.number, state.count) == (open_now[0].number, open_now[0].count)
        assert (state.next_at, state.next_words) == (open_now[0].next_at, open_now[0].next_words)
        assert state.agreement == open_now[0].agreement
        told[redact] = state.agreement.text
        await kill(session)
    assert told[False] and not told[True]


def test_what_was_told_is_read_as_an_earlier_version_left_it() -> None:
    left = {"number": 3, "channel": 0, "speaker": None, "start": 1.0, "end": 5.0, "count": 2, "next_at": 6.0}
    state = restored(InterimSnapshot.model_validate(left))
    assert (state.number, state.count, state.next_at, state.agreement.text) == (3, 2, 6.0, "")


async def test_a_failure_that_is_replayed_counts_once() -> None:
    """Also of an utterance that had its number before the place from which a replay goes on."""
    book, silence = UtteranceLedger(0), np.zeros(0, np.float32)
    long = Utterance(0, 1.0, 2.0, silence, 2.0, "a")
    reserved = book.begin(long, "a")
    admitted = AdmittedUtterance(book.begin(long, "b"), long, "b", 0.0, SpokenLine("b"))
    goes_on = InterimSnapshot(number=reserved, channel=0, speaker="a", start=1.0, end=2.0, count=1, next_at=3.0)
    milestone = Milestone(
        position=3.0, flushed=False, next_utterance=2, speakers=[], unnamed=0, told=[goes_on], words_given=None
    )
    ended = InFlight(admitted, asyncio.create_task(understood()), milestone)
    book.finish(ended, None, True, Memory())
    book.fail(reserved)
    replayed = UtteranceLedger(0)
    replayed.restore(Snapshot.model_validate_json(book.snapshot(4.0, Counter())), replayed=True)
    assert (book.failed, replayed.failed) == (1, 0)


async def test_what_was_labelled_is_not_understood_again(redis_url: str, demo_audio: np.ndarray) -> None:
    pieces = len(blocks(demo_audio))
    made = plan()
    events, asked = await carried(redis_url, made, demo_audio, [pieces - 1, pieces - 1, pieces - 1])
    assert len(numbers(events, 0)) == 14
    assert asked <= 14 + 3 * 2


async def test_redacted_words_are_in_nothing_that_is_kept(redis_url: str, demo_audio: np.ndarray) -> None:
    made, audio = kinds(demo_audio)["redacted"]
    session = Session(made, MODEL.config, Repeatable(), Bus(redis_url, Keys(made.session)))
    await session.start()
    await play(session, blocks(audio)[:200])
    await session.bus.flush()
    state, rows = await read_state(redis_url, Keys(made.session))
    assert state is not None
    assert rows
    assert "words " not in state + "".join(rows)
    await kill(session)


async def test_a_live_source_goes_on_and_says_what_was_lost(redis_url: str, demo_audio: np.ndarray) -> None:
    """Every utterance that had a number ends in a label or a failure, and the clock goes on through the gap."""
    made, pieces = plan(interim=0.5), blocks(demo_audio)
    helpers = Repeatable()
    session = Session(made, MODEL.config, helpers, Bus(redis_url, Keys(made.session)))
    await session.start()
    await play(session, pieces[:130])
    await kill(session)
    await asyncio.sleep(0.5)
    session = Session(made, MODEL.config, helpers, Bus(redis_url, Keys(made.session)))
    left = await load_resume_point(redis_url, session.bus.keys)
    assert left is not None
    at = session.resume(left, replayed=False)
    assert at >= left.snapshot.position + 0.5
    await session.start()
    later = [Block(b.number, at + b.start, b.samples) for b in pieces[: len(pieces) // 2]]
    await play(session, later)
    ended = await session.finish("end of source")
    events = await history(redis_url, made.session)
    ends = {e.utterance for e in events if isinstance(e, UtteranceFailed)} | set(numbers(events, 0))
    assert ends == set(range(ended.utterances))
    assert {unfinished.number for unfinished in left.snapshot.unfinished} <= {
        e.utterance for e in events if isinstance(e, UtteranceFailed) and "its sound was lost" in e.reason
    }
    assert ended.failed == sum(isinstance(e, UtteranceFailed) for e in events)
    assert all(
        e.audio_start >= at
        for e in events
        if isinstance(e, UtteranceHeard) and e.utterance >= left.snapshot.next_utterance
    )
    assert ended.counts["lost_audio_ms"] >= 500
    assert ended.duration > at


@pytest.mark.parametrize("replayed", [True, False])
async def test_a_session_that_has_heard_nothing_yet_goes_on_too(redis_url: str, replayed: bool) -> None:
    made = plan()
    for _ in range(2):
        session = Session(made, MODEL.config, Repeatable(), Bus(redis_url, Keys(made.session)))
        if (left := await load_resume_point(redis_url, session.bus.keys)) is not None:
            session.resume(left, replayed)
        await session.start()
        await session.bus.flush()
        await kill(session)
    started, goes_on = await history(redis_url, made.session)
    assert isinstance(started, SessionStarted)
    assert isinstance(goes_on, Degraded)
    assert "another process goes on" in goes_on.reason


async def test_what_another_version_left_is_not_read(redis_url: str, demo_audio: np.ndarray) -> None:
    made = plan()
    bus = Bus(redis_url, Keys(made.session))
    bus.save_state('{"schema_": 9}')
    await bus.aclose()
    assert await load_resume_point(redis_url, bus.keys) is None
