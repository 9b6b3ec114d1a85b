"""What a session tells of utterances while they go on: words, stable words, interim labels."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import numpy as np
import pytest

from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import subscribe
from stream.events import Degraded, Emotion, Event, UtteranceFailed, UtteranceHeard, UtterancePartial
from tests.support.backend import MODEL, LocalBackend, blocks, numbers, plan, probabilities, run
from workers.session.services import SessionPlan
from workers.session.session import Session
from workers.session.stages.languages import MIN_DETECTABLE_S


async def test_long_utterances_are_labelled_while_they_go_on(redis_url: str, demo_audio: np.ndarray) -> None:
    """Interim words and labels come before the utterance's own, under its number, and change nothing about it."""

    class Slow(LocalBackend):
        async def transcribe(self, samples, language, partial=False):
            return Transcription(f"{len(samples) // 1600} tenths")

    calm = await run(redis_url, plan(), Slow(), blocks(demo_audio))
    helpers = Slow()
    session_plan = plan(interim=1.5)
    session = Session(session_plan, MODEL.config, helpers, Bus(redis_url, Keys(session_plan.session)))
    await session.start()
    for block in blocks(demo_audio):
        await session.push(block)
        await asyncio.sleep(0.01)
    await session.finish("end of source")
    events = [event async for event in subscribe(redis_url, session_plan.session)]
    interim = [e for e in events if isinstance(e, Emotion) and e.trigger == "interval"]
    partial = [e for e in events if isinstance(e, UtterancePartial)]
    assert len(interim) >= 14 and len(partial) > len(interim)
    assert all(not e.final and e.latency is None for e in interim)
    ends = {e.utterance: n for n, e in enumerate(events) if isinstance(e, UtteranceHeard)}
    assert all(events.index(e) < ends[e.utterance] for e in (*interim, *partial))
    assert len({event.id for event in events}) == len(events)
    kept = [e for e in events if isinstance(e, Emotion) and e.trigger != "interval"]
    assert [(e.utterance, e.revision) for e in kept] == [
        (e.utterance, e.revision) for e in calm if isinstance(e, Emotion)
    ]
    assert [e.probabilities for e in kept] == probabilities(calm)


class Counting(LocalBackend):
    """Hears a word each half second; `asked` says of what kind each call was."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
        self.asked.append("partial" if partial else "words")
        return Transcription(" ".join(f"w{n}" for n in range(len(samples) // 8000)) + ".")

    async def embed(self, lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append("embed")
        return await super().embed(lines)

    async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
        self.asked.append("hear")
        return await super().encode_audio(samples)


async def watched(url: str, made: SessionPlan, helpers: LocalBackend, audio: np.ndarray) -> list[Event]:
    """The events of a session that has time to tell of what goes on."""
    session = Session(made, MODEL.config, helpers, Bus(url, Keys(made.session)))
    await session.start()
    for block in blocks(audio):
        await session.push(block)
        await asyncio.sleep(0.01)
    await session.finish("end of source")
    return [event async for event in subscribe(url, made.session)]


async def test_words_are_told_each_second_and_the_stable_ones_never_change(
    redis_url: str, demo_audio: np.ndarray
) -> None:
    """The first ones after half a second of speech, stable ones within 1.5 s; encoders have nothing to do with it."""
    helpers = Counting()
    events = await watched(redis_url, plan(interim=600.0), helpers, demo_audio)
    partial = [e for e in events if isinstance(e, UtterancePartial)]
    assert not [e for e in events if isinstance(e, Emotion) and e.trigger == "interval"]
    assert helpers.asked.count("partial") >= len(partial) > 40
    assert helpers.asked.count("embed") == helpers.asked.count("hear") == helpers.asked.count("words") == 14
    assert [e.id for e in partial[:2]] == [f"{e.session}:0:partial:{n}" for n, e in enumerate(partial[:2])]
    for number in {e.utterance for e in partial}:
        mine = [e for e in partial if e.utterance == number]
        lengths = [e.audio_end - e.audio_start - 0.3 for e in mine]  # of speech, heard in blocks of 0.2 s
        assert lengths[0] < 1.0 and lengths[1] < 1.5
        assert all(0.6 <= later - earlier <= 1.4 for earlier, later in pairwise(lengths[1:]))
        assert mine[0].stable == "" and mine[1].stable
        assert all(e.text is not None and e.text.startswith(e.stable) for e in mine)
        assert all(later.stable.startswith(earlier.stable) for earlier, later in pairwise(mine))


async def test_one_recognition_serves_words_and_label(redis_url: str, demo_audio: np.ndarray) -> None:
    helpers = Counting()
    events = await watched(redis_url, plan(interim=2.0), helpers, demo_audio)
    told = {e.id.rpartition(":")[2]: e for e in events if isinstance(e, UtterancePartial) and e.utterance == 2}
    interim = [e for e in events if isinstance(e, Emotion) and e.trigger == "interval" and e.utterance == 2]
    assert interim and len(told) > len(interim)
    for label in interim:
        assert told[label.id.rpartition(":")[2]].text == label.text
    assert helpers.asked.count("partial") == sum(isinstance(e, UtterancePartial) for e in events)


async def test_words_so_far_wait_until_a_language_can_be_told(redis_url: str, demo_audio: np.ndarray) -> None:
    """Short speech is often taken for another language, until the speaker's is known."""

    class Detecting(LocalBackend):
        async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
            languages = {"en": 0.2, "ja": 0.7} if partial else {"en": 0.9, "ja": 0.05}
            return Transcription(f"in {language}", language=language or "ja", languages=languages)

    events = await watched(redis_url, plan(interim=600.0), Detecting(), demo_audio[:, : 20 * 16_000])
    partial = [e for e in events if isinstance(e, UtterancePartial)]
    detected = [e.audio_end - e.audio_start for e in partial if e.text == "in None"]
    assert detected and min(detected) >= MIN_DETECTABLE_S
    known = [e.audio_end - e.audio_start for e in partial if e.text == "in en"]
    assert known and min(known) < MIN_DETECTABLE_S


@pytest.mark.parametrize("changes", [{"interim": 0.0}, {"redact": True}, {"modalities": ("audio",)}])
async def test_where_words_are_not_wanted_none_are_recognized_early(
    redis_url: str, demo_audio: np.ndarray, changes: dict
) -> None:
    helpers = Counting()
    events = await watched(redis_url, plan(**{"interim": 600.0} | changes), helpers, demo_audio[:, : 15 * 16_000])
    assert "partial" not in helpers.asked and not [e for e in events if isinstance(e, UtterancePartial)]


async def test_words_that_fail_while_somebody_talks_are_left_to_the_end(redis_url: str, demo_audio: np.ndarray) -> None:
    class Broken(Counting):
        async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
            if partial:
                raise RuntimeError("the recognizer of speech broke")
            return await super().transcribe(samples, language)

    events = await watched(redis_url, plan(interim=600.0), Broken(), demo_audio[:, : 15 * 16_000])
    assert numbers(events, 0) and not [e for e in events if isinstance(e, Degraded | UtteranceFailed)]


async def test_an_interim_label_that_is_not_needed_any_more_ends_nothing(
    redis_url: str, demo_audio: np.ndarray, monkeypatch
) -> None:
    """What it asked about the last utterance is thrown away when that is understood, while it still waits for it."""
    monkeypatch.setattr(
        "workers.session.stages.speculation._key", lambda utterance: (utterance.channel, utterance.start, 0.0, 0)
    )
    helpers = LocalBackend()
    embed, transcribe, read = helpers.embed, helpers.transcribe, 0

    async def hears_the_last_but_one_slowly(
        samples: np.ndarray, language: str | None, partial: bool = False
    ) -> Transcription:
        await asyncio.sleep(1.5 if 50 < session.position < 54.5 and not partial else 0)
        return await transcribe(samples, language)

    async def reads_its_first_lines_slowly(lines: list[Line]):
        nonlocal read
        read += session.position > 55.5
        await asyncio.sleep(60 if read == 1 else 0)
        return await embed(lines)

    helpers.embed, helpers.transcribe = reads_its_first_lines_slowly, hears_the_last_but_one_slowly  # type: ignore[method-assign]
    made = plan(speculate=True, interim=0.4)
    session = Session(made, MODEL.config, helpers, Bus(redis_url, Keys(made.session)))
    await session.start()
    for block in blocks(demo_audio):
        await session.push(block)
        await asyncio.sleep(0.03)
    ended = await session.finish("end of source")
    assert (ended.utterances, ended.failed) == (14, 0) and read > 1


async def test_what_was_told_of_and_turns_out_to_be_no_speech_is_said_so(redis_url: str) -> None:
    """Promise 4 for interim labels: a number that was given out ends in a label or a failure."""
    rng = np.random.default_rng(0)
    levels = np.repeat([0.02, 0.2, 1e-4], [3_200, 5 * 16_000, 2 * 16_000])  # rises like a voice, and goes on as noise
    hiss = (levels * rng.normal(size=len(levels))).astype(np.float32)[None]
    helpers = LocalBackend()
    session_plan = plan(channels=1, interim=1.0, modalities=("text",))
    session = Session(session_plan, MODEL.config, helpers, Bus(redis_url, Keys(session_plan.session)))
    for segmenter in session.segmentation._segmenters:
        segmenter._vad = Everything()  # type: ignore[attr-defined]
    await session.start()
    for block in blocks(hiss):
        await session.push(block)
        await asyncio.sleep(0.01)
    ended = await session.finish("end of source")
    events = [event async for event in subscribe(redis_url, session_plan.session)]
    assert [e.reason for e in events if isinstance(e, UtteranceFailed)] == ["it turned out to be no speech"]
    assert (ended.utterances, ended.failed) == (1, 1)


class Everything:
    """A VAD that takes whatever is loud for speech."""

    size = 320

    def __call__(self, frame: np.ndarray) -> float:
        return float(frame.std() > 0.01)


@pytest.mark.parametrize("partials", ["w0 w1.", ""])
async def test_an_utterance_that_an_interrupt_cuts_off_has_its_last_words_or_fails(
    partials: str, redis_url: str, demo_audio: np.ndarray
) -> None:
    """The recognizer, unsure of a word that breaks off, hears none in the whole piece."""

    class Unsure(LocalBackend):
        async def transcribe(self, samples, language, partial=False):
            return Transcription(partials if partial else "")

        async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
            return np.array([60, 5, 200, 30, 100, 4, 8], np.float32), VoiceObservation()

    made = plan(interim=1.5)
    session = Session(made, MODEL.config, Unsure(), Bus(redis_url, Keys(made.session)))
    await session.start()
    for block in blocks(demo_audio[:, : 3 * 16_000]):
        await session.push(block)
        await asyncio.sleep(0.1)
    await session.finish("interrupted")
    events = [event async for event in subscribe(redis_url, made.session)]
    (heard,) = [e for e in events if isinstance(e, UtteranceHeard)]
    labels = [e for e in events if isinstance(e, Emotion) and e.trigger != "interval"]
    failed = [e.reason for e in events if isinstance(e, UtteranceFailed)]
    assert heard.text == partials
    if partials:
        assert len(labels) == 2 and not failed
        assert all(label.text == partials and label.modalities.missing == [] for label in labels)
    else:
        assert not labels and failed == ["the session was stopped before any of its words were recognized"]
        assert events[-1].failed == 1


async def test_a_label_without_words_says_why(redis_url: str, demo_audio: np.ndarray) -> None:
    helpers = LocalBackend()
    helpers.silent = set(range(100))

    async def measured(samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
        return np.array([60, 5, 200, 30, 100, 4, 8], np.float32), VoiceObservation()

    helpers.encode_audio = measured
    events = await run(redis_url, plan(), helpers, blocks(demo_audio[:, : 6 * 16_000]))
    labels = [e for e in events if isinstance(e, Emotion)]
    assert labels and all(e.modalities.reasons == {"text": "no words were recognized"} for e in labels)
