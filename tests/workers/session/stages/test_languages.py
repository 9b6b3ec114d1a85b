"""Words of a language that the text encoder does not read, through a session with the real graph."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from model.encoders.spoken_language import Belief
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.events import Emotion, UtteranceFailed, UtteranceHeard
from stream.speech.transcript import Cue, Transcript
from tests.support.backend import MODEL, LocalBackend, blocks, plan, run
from workers.session.session import Session
from workers.session.snapshot import load_resume_point
from workers.session.stages.languages import SpokenLanguages

ENGLISH, GERMAN = {"en": 0.97, "de": 0.01}, {"en": 0.01, "de": 0.95}


class ByChannel(LocalBackend):
    """The second channel speaks German; what is not known to be something is taken for Japanese."""

    def __init__(self, audio: np.ndarray, order: int = 0) -> None:
        super().__init__()
        self.rng = np.random.default_rng(order)
        self._second = {bytes(audio[1, n : n + 64]) for n in range(0, audio.shape[1], 320)}

    async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
        return np.array([60, 10, 170, 50, 180, 4, 8], np.float32), VoiceObservation()

    async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
        await asyncio.sleep(self.rng.uniform(0, 0.05))
        second = any(bytes(samples[n : n + 64]) in self._second for n in range(0, 640))
        return Transcription(f"in {language}", language=language or "ja", languages=GERMAN if second else ENGLISH)


@pytest.mark.parametrize("order", [0, 1])
async def test_words_in_another_language_are_kept_and_not_read(
    redis_url: str, demo_audio: np.ndarray, order: int
) -> None:
    helpers = ByChannel(demo_audio, order)
    events = await run(redis_url, plan(), helpers, blocks(demo_audio))
    heard = {e.utterance: e for e in events if isinstance(e, UtteranceHeard)}
    said = [e for e in events if isinstance(e, Emotion) and e.trigger == "speech_ended"]
    assert len(said) == 14
    for event in said:
        german = event.speaker == "speaker 2"
        assert ("text" in event.modalities.missing) == german
        assert event.modalities.reasons == ({"text": "language: de"} if german else {})
        assert heard[event.utterance].language == ("de" if german else "en"), "recognized anew in the right one"
        assert event.text == ("in de" if german else "in en")
    read = [line.words for lines in helpers.read for line in lines]
    assert set(read) == {"in en", ""}, "no earlier line of another language either"


async def test_a_session_without_voice_says_why_it_has_no_label(redis_url: str, demo_audio: np.ndarray) -> None:
    class Silent(ByChannel):
        async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
            return None, VoiceObservation()

    events = await run(redis_url, plan(), Silent(demo_audio), blocks(demo_audio))
    failed = [e for e in events if isinstance(e, UtteranceFailed)]
    assert len(failed) == 7
    assert {e.reason for e in failed} == {
        "nothing to go by: the words' language (de) is not read, and neither voice nor face could be judged"
    }


async def test_given_words_are_judged_too(redis_url: str, demo_audio: np.ndarray) -> None:
    german = ("Das weiß ich doch nicht.", "Wo warst du gestern Abend?", "Ich habe den ganzen Tag gewartet.")
    english = ("I really don't know.", "Where were you last night?", "I waited for you all day long.")
    cues = [
        Cue(0.1 + 4.1 * n, 4.0 + 4.1 * n, (german if n % 2 else english)[n // 2 % 3], channel=n % 2) for n in range(14)
    ]

    class Voiced(LocalBackend):
        async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
            return np.array([60, 10, 170, 50, 180, 4, 8], np.float32), VoiceObservation()

    events = await run(redis_url, plan(transcript=Transcript(cues)), Voiced(), blocks(demo_audio))
    said = [e for e in events if isinstance(e, Emotion) and e.trigger == "speech_ended" and e.text]
    foreign = [e for e in said if e.modalities.reasons]
    assert foreign and all(e.modalities.reasons == {"text": "language: de"} for e in foreign)
    assert any(not e.modalities.reasons for e in said)


async def test_another_process_goes_on_with_what_was_known(redis_url: str, demo_audio: np.ndarray) -> None:
    made = plan()
    session = Session(made, MODEL.config, ByChannel(demo_audio), Bus(redis_url, Keys(made.session)))
    await session.start()
    for block in blocks(demo_audio)[:150]:
        await session.push(block)
    while session.current_load().in_flight:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    session.close()
    left = await load_resume_point(redis_url, Keys(made.session))
    assert left is not None
    beliefs = left.snapshot.memory.languages
    assert beliefs["speaker 2"].foreign == "de" and beliefs["speaker 1"].foreign is None
    known = SpokenLanguages(("en",))
    known.restore(beliefs)
    assert known.expected("speaker 2") == "de" and known.expected("speaker 1") == "en"


def test_a_language_that_is_given_settles_it() -> None:
    said = Transcription("words", language="en", languages=ENGLISH)
    german = SpokenLanguages(("en",), "de")
    assert german.expected("anybody") == "de" and german.judge("anybody", said).foreign == "de"
    english = SpokenLanguages(("en",), "en")
    assert english.expected("anybody") == "en" and english.judge("anybody", said).foreign is None


def test_a_reader_of_all_languages_reads_all() -> None:
    every = SpokenLanguages(())
    said = Transcription("Worte", language="de", languages=GERMAN)
    belief = every.judge("a", said)
    assert belief.foreign is None and every.language(belief, GERMAN) is None
    every.keep("a", belief)
    assert every.expected("a") is None, "found out utterance by utterance"


def test_a_recognizer_that_cannot_tell_is_believed() -> None:
    known = SpokenLanguages(("en",))
    assert known.judge("a", Transcription("words", language="en")) == Belief()
    assert known.expected("a") is None


def test_a_language_that_a_transcript_declares_is_believed_until_its_words_are_in_another() -> None:
    unclear, english = Transcription("Na ja.", languages={"de": 0.4, "en": 0.1}), Transcription("So", languages=ENGLISH)
    assert SpokenLanguages(("en",), declared="de").judge("Ann", unclear).foreign == "de"
    assert SpokenLanguages(("en",)).judge("Ann", unclear).foreign is None
    assert SpokenLanguages(("en",), declared="en").judge("Ann", unclear).foreign is None
    assert SpokenLanguages((), declared="de").judge("Ann", unclear).foreign is None
    languages = SpokenLanguages(("en",), declared="de")
    for _ in range(2):
        languages.keep("Ann", languages.judge("Ann", english))
    assert languages.judge("Ann", english).foreign is None
