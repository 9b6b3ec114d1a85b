"""Events as messages of Deepgram's streaming interface."""

from __future__ import annotations

from typing import Any

from deepgram.core.unchecked_base_model import construct_type
from deepgram.listen.v1 import socket_client as sdk
from deepgram.listen.v1.types.listen_v1configure_failure import ListenV1ConfigureFailure

from stream.events import SessionStarted, SpeakerMerged, UtteranceFailed, UtteranceHeard, Word
from tests.support.events import ended, label, notice, partial
from workers.gateway.deepgram_messages import Message, Replies, configure_failure, error, refusal, spread
from workers.gateway.deepgram_query import Wanted

ALL = Wanted(
    format="pcm",
    interim_results=True,
    diarize=True,
    speech_started=True,
    utterance_end=True,
    own_messages=True,
    ignored=("model",),
)
STARTED = SessionStarted(
    id="s:started", session="s", time="2026-01-01T00:00:00Z", sources=["room"], channels="mixed", speakers="cluster",
    encoders={}, checkpoint="meld@0123456789ab", emotions=["joy", "neutral"], consent="yes", redacted=False,
)  # fmt: skip


def heard(utterance: int, speaker: str = "Ann", text: str = "Hi, Ben!") -> UtteranceHeard:
    words = [
        Word(word=word, start=1 + n / 2, end=1.5 + n / 2, probability=0.9 - 0.1 * n)
        for n, word in enumerate(text.split())
    ]
    return UtteranceHeard(
        id=f"s:{utterance}", session="s", utterance=utterance, speaker=speaker, audio_start=1, audio_end=2, text=text,
        words=words,
    )  # fmt: skip


def replies(wanted: Wanted = ALL, offset: float = 0.25) -> Replies:
    made = Replies("a-request", wanted)
    made.session, made.offset = "s", offset
    assert made.of(STARTED) == []
    return made


def read(message: Message) -> Any:
    """As the official library reads it."""
    return construct_type(type_=sdk.V1SocketClientResponse, object_=message)


def test_an_utterance_from_its_first_words_to_its_last_label() -> None:
    client = replies()
    started, interim = client.of(partial("s", 0, "Hi Ben", ""))
    assert started == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.75}
    assert (interim["is_final"], interim["speech_final"]) == (False, False)
    assert interim["channel"]["alternatives"][0]["transcript"] == "Hi Ben"
    assert [word["start"] for word in interim["channel"]["alternatives"][0]["words"]] == [0.75, 1.15]
    assert client.of(heard(0)) == []  # until its label is there
    final, end = client.of(label("s", 0))
    assert final["channel"]["alternatives"] == [
        {
            "transcript": "Hi, Ben!",
            "confidence": 0.85,
            "sentiment": "positive",
            "sentiment_score": 0.75,
            "words": [
                {
                    "word": "hi", "start": 0.75, "end": 1.25, "confidence": 0.9, "punctuated_word": "Hi,", "speaker": 0,
                    "sentiment": "positive", "sentiment_score": 0.75,
                },
                {
                    "word": "ben", "start": 1.25, "end": 1.75, "confidence": 0.8, "punctuated_word": "Ben!",
                    "speaker": 0, "sentiment": "positive", "sentiment_score": 0.75,
                },
            ],
        }
    ]  # fmt: skip
    assert (final["start"], final["duration"], final["channel_index"]) == (0.75, 1.0, [0, 1])
    assert (final["is_final"], final["speech_final"], final["from_finalize"]) == (True, True, False)
    assert final["metadata"]["request_id"] == "a-request" and final["metadata"]["model_info"]["name"] == "undertone"
    assert final["undertone"] == {
        "session": "s", "utterance": 0, "speaker": "Ann", "emotion": "joy", "revision": 0, "final": False,
        "probabilities": {"joy": 0.75, "neutral": 0.25}, "uncertain": False,
    }  # fmt: skip
    assert end == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.75}
    (revision,) = client.of(label("s", 0, revision=1, final=True, trigger="context", emotion="neutral"))
    assert revision["type"] == "undertone.Revision" and revision["undertone"]["emotion"] == "neutral"
    assert revision["undertone"]["final"]


def test_what_comes_again_is_not_sent_again() -> None:
    client = replies()
    client.of(heard(0))
    client.of(label("s", 0))
    assert client.of(partial("s", 0, "Hi", "")) == [] and client.of(heard(0)) == [] and client.of(notice("s", 1)) == []
    assert client.of(label("s", 0, trigger="interval")) == []


def test_only_what_was_asked_for_is_sent() -> None:
    client = replies(Wanted(format="pcm"))
    assert client.of(partial("s", 0, "Hi", "")) == [] and client.of(label("s", 0, trigger="interval")) == []
    assert client.of(heard(0)) == []
    (final,) = client.of(label("s", 0))
    assert "speaker" not in final["channel"]["alternatives"][0]["words"][0] and final["undertone"]["speaker"] == "Ann"


def test_an_interim_label_goes_with_the_next_interim_words() -> None:
    client = replies()
    assert [each["type"] for each in client.of(label("s", 0, trigger="interval"))] == ["SpeechStarted"]
    (interim,) = client.of(partial("s", 0, "Hi", ""))
    assert interim["undertone"]["emotion"] == "joy" and interim["channel"]["alternatives"][0]["sentiment"] == "positive"


def test_words_without_a_label_come_without_sentiment() -> None:
    client = replies(Wanted(format="pcm"))
    client.of(heard(0))
    failed = UtteranceFailed(
        id="s:0:failed", session="s", utterance=0, speaker="Ann", audio_start=1, audio_end=2, reason="a worker died"
    )
    (first,) = client.of(failed)
    client.of(heard(1))
    (last,) = client.of(ended("s"))
    for final in (first, last):
        (alternative,) = final["channel"]["alternatives"]
        assert alternative["transcript"] == "Hi, Ben!" and "sentiment" not in alternative
        assert final["is_final"] and "sentiment" not in alternative["words"][0]
    assert first["undertone"]["failed"] == "a worker died"
    silent = failed.model_copy(update={"utterance": 2, "speaker": None})
    assert client.of(silent)[0]["channel"]["alternatives"][0]["words"] == []


def test_speakers_are_numbered_as_they_appear_and_channels_as_they_are() -> None:
    client = replies()
    numbers = []
    for utterance, speaker in enumerate(("Ben", "Ann", "Ben")):
        client.of(heard(utterance, speaker))
        final = client.of(label("s", utterance, speaker=speaker))[0]
        numbers.append(final["channel"]["alternatives"][0]["words"][0]["speaker"])
    assert numbers == [0, 1, 0]
    (merged,) = client.of(SpeakerMerged(id="s:merged", session="s", speaker="Ann", into="Ben"))
    assert (merged["type"], merged["speaker"], merged["into"]) == ("undertone.SpeakerMerged", 1, 0)
    stereo = replies(Wanted(format="pcm", channels=2))
    stereo.of(heard(0, "channel 2"))
    assert stereo.of(label("s", 0, speaker="channel 2"))[0]["channel_index"] == [1, 2]


def test_finalize_marks_the_next_final_results() -> None:
    client = replies(Wanted(format="pcm"))
    client.finalize()
    marks = [client.of(label("s", utterance))[0]["from_finalize"] for utterance in range(2)]
    assert marks == [True, False]


def test_the_last_message() -> None:
    client = replies()
    client.of(ended("s"))
    last = client.metadata("00", "2026-01-01T00:00:00.000Z", None)
    assert last["duration"] == 0.75 and last["channels"] == 1 and list(last["model_info"]) == last["models"]
    assert last["undertone"] == {
        "session": "s", "ignored": ["model"], "reason": "end of source", "utterances": 0, "failed": 0
    }  # fmt: skip
    assert client.metadata("00", "", 12.5)["duration"] == 12.5


def test_the_official_library_reads_every_message() -> None:
    client = replies()
    started, interim = client.of(partial("s", 0, "Hi Ben", ""))
    client.of(heard(0))
    final, end = client.of(label("s", 0))
    for message, kind in (
        (started, sdk.ListenV1SpeechStarted), (interim, sdk.ListenV1Results), (final, sdk.ListenV1Results),
        (end, sdk.ListenV1UtteranceEnd), (client.metadata("00", "", 1.0), sdk.ListenV1Metadata),
        (error("SchemaError", "no JSON", "{"), sdk.ListenV1Error), (configure_failure("r"), ListenV1ConfigureFailure),
    ):  # fmt: skip
        assert type(read(message)) is kind
    word = read(final).channel.alternatives[0].words[1]
    assert (word.word, word.speaker, word.sentiment, word.sentiment_score) == ("ben", 0, "positive", 0.75)


def test_messages_that_the_official_library_does_not_know_come_only_where_they_are_asked_for() -> None:
    """It hands them to a program as None, which few expect."""
    later, merged = (
        label("s", 0, revision=1, trigger="context"),
        SpeakerMerged(id="m", session="s", speaker="a", into="b"),
    )
    for wanted, count in ((ALL, 1), (Wanted(format="pcm"), 0)):
        client = replies(wanted)
        client.of(label("s", 0))
        for event in (later, merged):
            messages = client.of(event)
            assert len(messages) == count and all(read(message) is None for message in messages)


def test_words_without_times_are_spread_over_their_utterance() -> None:
    words = spread("a bcd", 1.0, 2.0)
    assert [(word.word, word.start, word.end) for word in words] == [("a", 1.0, 1.25), ("bcd", 1.25, 2.0)]
    assert spread("", 1.0, 2.0) == []


def test_what_a_refusal_says() -> None:
    assert refusal(401, "this token is not known", "r") == {
        "err_code": "INVALID_AUTH", "err_msg": "this token is not known", "request_id": "r"
    }  # fmt: skip
    assert len(error("SchemaError", "no JSON", "x" * 10_000)["message"]) == 200
