"""The session object without Ray: order, failures, lost state, redaction. Real Redis, real network weights."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from model.encoders.text import Line
from model.encoders.transcription import Transcription, Word
from model.encoders.voice_observation import Sound, VoiceObservation
from stream.block import Block
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import subscribe
from stream.events import Degraded, Emotion, SessionEnded, UtteranceFailed, UtteranceHeard, UtterancePartial
from stream.speech.transcript import Transcript
from stream.speech.turns import Turn
from tests.support.backend import MODEL, LocalBackend, blocks, demo_transcript, numbers, plan, probabilities, run
from workers.session.session import MAX_IN_FLIGHT, Session


async def test_order_is_kept_while_several_are_in_work(redis_url: str, demo_audio: np.ndarray) -> None:
    helpers = LocalBackend()
    events = await run(redis_url, plan(), helpers, blocks(demo_audio))
    assert helpers.most_at_once > 2
    assert helpers.most_at_once <= MAX_IN_FLIGHT
    assert numbers(events, 0) == numbers(events, 1) == list(range(14))
    starts = [e.audio_start for e in events if isinstance(e, Emotion) and e.revision == 0]
    assert starts == sorted(starts)
    assert len({event.id for event in events}) == len(events)
    heard = [i for i, e in enumerate(events) if isinstance(e, UtteranceHeard)]
    labelled = [i for i, e in enumerate(events) if isinstance(e, Emotion) and e.revision == 0]
    assert all(h < e for h, e in zip(heard, labelled, strict=True))


async def test_what_breaks_costs_its_modality_alone(redis_url: str, demo_audio: np.ndarray) -> None:
    """Promise 6, for failures: prosody goes on without words, and the session says what it lost."""

    class WithProsody(LocalBackend):
        async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
            return np.array([60, 5, 200, 30, 100, 4, 8], np.float32), VoiceObservation()

    helpers = WithProsody()
    helpers.fail = {2}
    events = await run(redis_url, plan(), helpers, blocks(demo_audio))
    assert not any(isinstance(e, UtteranceFailed) for e in events)
    (degraded,) = [e for e in events if isinstance(e, Degraded)]
    assert "the recognizer of speech broke" in degraded.reason
    missing = [e.modalities.missing for e in events if isinstance(e, Emotion) and e.revision == 0]
    assert missing.count(["text"]) == 1 and missing.count([]) == 13
    (reasons,) = [
        e.modalities.reasons for e in events if isinstance(e, Emotion) and e.revision == 0 and e.modalities.missing
    ]
    assert reasons == {"text": "RuntimeError: the recognizer of speech broke"}


async def test_a_voice_is_told_on_the_media_clock_by_the_labels_of_both_revisions(redis_url, demo_audio) -> None:
    class Laughing(LocalBackend):
        async def encode_audio(self, samples: np.ndarray) -> tuple[np.ndarray | None, VoiceObservation]:
            return None, VoiceObservation(0.5, np.full(8, 0.125, np.float32), (Sound("laughter", 0.25, 0.5, 0.9),))

    labels = [e for e in await run(redis_url, plan(), Laughing(), blocks(demo_audio)) if isinstance(e, Emotion)]
    assert {label.revision for label in labels} == {0, 1}
    for label in labels:
        assert label.voice is not None and label.voice.arousal == 0.5 and len(label.voice.expression or {}) == 8
        (sound,) = label.voice.sounds
        assert (sound.sound, sound.probability) == ("laughter", 0.9)
        assert (sound.start, sound.end) == pytest.approx((label.audio_start + 0.25, label.audio_start + 0.5), abs=2e-3)


async def test_the_text_encoder_reads_what_was_said_before_and_nothing_later(redis_url, demo_audio) -> None:
    """In the conversation's order, though words come out of order; one without words is an empty line."""
    helpers = LocalBackend()
    helpers.fail, helpers.silent = {2}, {4}
    events = await run(redis_url, plan(), helpers, blocks(demo_audio))
    heard = {e.utterance: Line(e.speaker, e.text or "") for e in events if isinstance(e, UtteranceHeard)}
    reach = MODEL.config.context
    assert reach > 0
    for lines in helpers.read:
        number = next(n for n, line in heard.items() if line == lines[-1]._replace(recognized=False))
        before = [heard.get(n) for n in range(max(0, number - reach), number)]
        assert len(lines) == len(before) + 1
        assert all(mine == (theirs or Line(mine.speaker, "")) for mine, theirs in zip(lines, before, strict=False))


async def test_an_encoder_that_reads_nothing_along_is_given_nothing(redis_url, demo_audio) -> None:
    """Its answer for an utterance is the same in a process that knows no earlier one."""
    helpers = LocalBackend()
    await run(redis_url, plan(), helpers, blocks(demo_audio), replace(MODEL.config, reader=None))
    assert len(helpers.read) >= 14 and {len(lines) for lines in helpers.read} == {1}


async def test_every_utterance_ends_in_a_label_or_a_failure(redis_url: str, demo_audio: np.ndarray) -> None:
    """Promise 4: what cannot be labelled is said so, with its reason, and nothing after it suffers."""
    helpers = LocalBackend()
    helpers.fail, helpers.silent = {1, 5}, {3}
    events = await run(redis_url, plan(), helpers, blocks(demo_audio))
    failed = {e.utterance: e.reason for e in events if isinstance(e, UtteranceFailed)}
    assert sorted([*failed, *numbers(events, 0)]) == list(range(14))
    assert len(failed) == 3
    assert sum("broke" in reason for reason in failed.values()) == 2
    assert all("nothing to go by" in reason for reason in failed.values())
    assert numbers(events, 1) == numbers(events, 0)
    ended = events[-1]
    assert isinstance(ended, SessionEnded) and (ended.utterances, ended.failed) == (14, 3)


async def test_a_recognizer_that_forgets_is_given_its_state_back(redis_url: str, demo_audio: np.ndarray) -> None:
    calm, shaken = LocalBackend(), LocalBackend()
    label, forget_before = shaken.recognizer.label, {4, 9}

    async def forgetful(session, number, heard):
        if number in forget_before:
            forget_before.remove(number)
            shaken.recognizer._conversations.pop(session)
        return await label(session, number, heard)

    shaken.recognizer.label = forgetful  # type: ignore[method-assign]
    # Words by order of calls would differ between the runs; a transcript's do not.
    first = await run(redis_url, plan(transcript=demo_transcript()), calm, blocks(demo_audio))
    second = await run(redis_url, plan(transcript=demo_transcript()), shaken, blocks(demo_audio))
    assert not forget_before
    for one, other in zip(probabilities(first), probabilities(second), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


async def test_words_stay_out_of_a_redacted_session(redis_url: str, demo_audio: np.ndarray) -> None:
    events = await run(redis_url, plan(redact=True), LocalBackend(), blocks(demo_audio))
    assert all("words " not in event.wire() for event in events[:-1])
    assert all(event.words == [] for event in events if isinstance(event, UtteranceHeard))
    assert all(event.text is None for event in events if isinstance(event, Emotion))


async def test_what_identifies_is_masked_in_every_event(redis_url: str, demo_audio: np.ndarray) -> None:
    """Labels, words with times, interim labels; no words before the end; the text encoder reads the true words."""
    pytest.importorskip("presidio_analyzer")
    said = ["My", "name", "is", "Xenia", "and", "my", "number", "is", "555", "0199"]

    class Telling(LocalBackend):
        async def transcribe(self, samples: np.ndarray, language: str | None, partial: bool = False) -> Transcription:
            await super().transcribe(samples, language)
            return Transcription(" ".join(said), tuple(Word(word, n / 9, n / 9, 0.9) for n, word in enumerate(said)))

    helpers = Telling()
    masked = plan(mask=True, interim=1.0, names={0: "Mara", 1: "Jonas"})
    session = Session(masked, MODEL.config, helpers, Bus(redis_url, Keys(masked.session)))
    await session.start()
    for block in blocks(demo_audio):
        await session.push(block)
        await asyncio.sleep(0.01)  # else nobody gets to interim labels
    await session.finish("end of source")
    events = [event async for event in subscribe(redis_url, masked.session)]
    assert events[0].masked and not events[0].redacted  # type: ignore[union-attr]
    wires = [event.wire() for event in events]
    assert not [wire for wire in wires if "Xenia" in wire or "0199" in wire]
    told = {event.text for event in events if isinstance(event, UtteranceHeard)}
    assert told == {"My name is <PERSON> and my number is <NUMBER>"}
    heard = next(event for event in events if isinstance(event, UtteranceHeard))
    assert [word.word for word in heard.words] == ["My", "name", "is", "<PERSON>", *said[4:8], "<NUMBER>"]
    labels = [event for event in events if isinstance(event, Emotion)]
    assert {event.text for event in labels if event.trigger != "interval"} == told
    assert {event.text for event in labels if event.trigger == "interval"} == {None}
    assert not [event for event in events if isinstance(event, UtterancePartial)]
    assert any("Xenia" in line.words for lines in helpers.read for line in lines)


async def test_the_transcript_is_given_out_whole_and_by_speaker(redis_url: str, demo_audio: np.ndarray) -> None:
    names = {0: "Mara", 1: "Jonas"}
    events = await run(redis_url, plan(transcript=demo_transcript(), names=names), LocalBackend(), blocks(demo_audio))
    said = [(e.speaker, e.text) for e in events if isinstance(e, UtteranceHeard)]
    assert said == [(cue.speaker, cue.text) for cue in demo_transcript().cues]


async def test_names_the_transcript_does_not_know_are_matched_by_time(redis_url: str, demo_audio: np.ndarray) -> None:
    """As with RTTM's speaker labels, or captions that name speakers but no channels."""
    cues = [replace(cue, channel=None) for cue in demo_transcript().cues]
    for changes in ({}, {"names": {0: "Anna", 1: "Ben"}}):
        events = await run(redis_url, plan(transcript=Transcript(cues), **changes), LocalBackend(), blocks(demo_audio))
        assert [e.text for e in events if isinstance(e, UtteranceHeard)] == [cue.text for cue in cues]
    turns = tuple(Turn(cue.start - 0.1, cue.end + 0.1, f"voice {cue.speaker}") for cue in cues)
    mono = blocks(demo_audio.sum(0, keepdims=True))
    given = plan(transcript=Transcript(cues), channels=1, speakers="turns", turns=turns)
    events = await run(redis_url, given, LocalBackend(), mono)
    assert [e.text for e in events if isinstance(e, UtteranceHeard)] == [cue.text for cue in cues]


async def test_silence_and_a_foreign_transcript_end_in_an_error(redis_url: str, demo_audio: np.ndarray) -> None:
    silence = np.zeros((2, 5 * 16_000), np.float32)
    (*_, ended) = await run(redis_url, plan(), LocalBackend(), blocks(silence))
    assert ended.reason.startswith("error: no speech was found; the sound is digital silence")  # type: ignore[union-attr]
    (*_, ended) = await run(redis_url, plan(), LocalBackend(), blocks(demo_audio * np.float32(0.003)))
    assert ended.reason.startswith("error: no speech was found; the sound is very quiet")  # type: ignore[union-attr]
    transcript = demo_transcript()
    late = replace(plan(), transcript=type(transcript)([replace(cue, start=900, end=901) for cue in transcript.cues]))
    (*_, ended) = await run(redis_url, late, LocalBackend(), blocks(demo_audio))
    assert "transcript does not match" in ended.reason  # type: ignore[union-attr]


async def test_what_is_wrong_with_what_was_given_is_told_at_the_start(redis_url: str, demo_audio: np.ndarray) -> None:
    given = replace(plan(transcript=demo_transcript()), notes=("a.vtt: 2 lines left out",), lines_left_out=2)
    events = await run(redis_url, given, LocalBackend(), blocks(demo_audio))
    assert events[1].reason == "a.vtt: 2 lines left out"  # type: ignore[union-attr]
    assert events[-1].counts["lines_left_out"] == 2  # type: ignore[union-attr]


async def test_lost_audio_and_lag_are_announced(redis_url: str, demo_audio: np.ndarray) -> None:
    pieces = blocks(demo_audio)[:100]
    pieces[50] = replace(pieces[50], dropped=1.5)
    pieces[60:] = [replace(block, lag=lag) for block, lag in zip(pieces[60:], np.linspace(0, 5, 40), strict=True)]
    events = await run(redis_url, plan(), LocalBackend(), pieces)
    kinds = [event.type for event in events]
    assert kinds.count("degraded") == 1 and kinds.count("lag") == 3  # at 1, 2 and 4 s
    assert events[-1].counts["lost_audio_ms"] == 1500  # type: ignore[union-attr]


async def test_the_hosts_clock_may_step(redis_url: str, demo_audio: np.ndarray, monkeypatch) -> None:
    """By days, there and back: times of events are of the media, delays of the monotonic clock."""
    steady = await run(redis_url, plan(), LocalBackend(), blocks(demo_audio))
    clock, rng = time.time, np.random.default_rng(1)
    monkeypatch.setattr(time, "time", lambda: clock() + rng.uniform(-2e5, 2e5))
    stepped = await run(redis_url, plan(), LocalBackend(), blocks(demo_audio))
    times = [
        [(e.utterance, e.audio_start, e.audio_end) for e in each if isinstance(e, Emotion)]
        for each in (steady, stepped)
    ]
    assert times[0] == times[1]
    delays = [e.latency for e in stepped if isinstance(e, Emotion) and e.latency is not None]
    assert delays and all(0 <= delay.queue + delay.asr + delay.encode < 60 for delay in delays)


async def test_a_lost_source_is_announced(redis_url: str, demo_audio: np.ndarray) -> None:
    pieces = blocks(demo_audio)[:60]
    nothing = np.zeros((2, 0), np.float32)
    pieces[30:30] = [Block(30, 6.0, nothing, notice="camera lost: reset")]
    pieces = [replace(block, number=n) for n, block in enumerate(pieces)]
    events = await run(redis_url, plan(), LocalBackend(), pieces)
    (notice,) = [e for e in events if isinstance(e, Degraded)]
    assert notice.reason == "camera lost: reset" and notice.audio_time == pytest.approx(6.0)
