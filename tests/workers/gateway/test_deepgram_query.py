"""Query of Deepgram's streaming interface."""

from __future__ import annotations

import pytest

from workers.gateway.deepgram_query import DONE, REFUSED, WITHOUT_EFFECT, Unsupported, Wanted, read_query

PCM = [("encoding", "linear16"), ("sample_rate", "48000")]


def test_what_a_program_usually_asks_for() -> None:
    asked = [
        *PCM, ("model", "nova-3"), ("language", "en-US"), ("smart_format", "true"), ("interim_results", "true"),
        ("diarize", "true"), ("utterance_end_ms", "1000"), ("vad_events", "true"), ("endpointing", "300"),
        ("channels", "1"), ("tag", "a"), ("tag", "b"), ("redact", "false"), ("consent", "both agreed"),
    ]  # fmt: skip
    assert read_query(asked) == Wanted(
        format="pcm", rate=48_000, language="en", consent="both agreed", interim_results=True, diarize=True,
        speech_started=True, utterance_end=True, ignored=("endpointing", "model", "smart_format", "tag"),
    )  # fmt: skip
    assert read_query([]) == Wanted() and Wanted().format == "webm"


def test_the_tracks_of_a_session() -> None:
    assert read_query(PCM).names == ["speaker"]
    assert read_query([*PCM, ("diarize_model", "latest")]).names == [None]
    stereo = read_query([*PCM, ("channels", "2"), ("multichannel", "true")])
    assert stereo.names == ["channel 1", "channel 2"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ([("encoding", "mp3")], "encoding 'mp3': send linear16, or WebM without this parameter"),
        ([("encoding", "linear16")], "sample_rate: needed with encoding=linear16"),
        ([("encoding", "linear16"), ("sample_rate", "96000")], "sample_rate: between 8000 and 48000 Hz"),
        ([*PCM, ("channels", "two")], "channels: a whole number"),
        ([*PCM, ("channels", "17"), ("multichannel", "true")], "channels: between 1 and 16"),
        ([*PCM, ("channels", "2")], "channels: several only with multichannel=true, a participant each"),
        (
            [*PCM, ("channels", "2"), ("multichannel", "true"), ("diarize", "true")],
            "diarize: each channel of several is one participant; leave out diarize or multichannel",
        ),
        ([("channels", "2"), ("multichannel", "true")], "multichannel: only with encoding=linear16"),
        ([("diarize", "maybe")], "diarize: true or false"),
        ([("language", "?")], "language: a code such as en or en-US, or multi"),
        ([("redact", "pci")], "redact: words are not redacted here; POST /sessions can; leave it out"),
        ([("callback", "https://example.org")], "callback: results go over this connection only; leave it out"),
        ([("consnt", "yes")], "'consnt': no parameter of this interface; leave it out"),
        ([("language", "en"), ("language", "de")], "language: given twice"),
    ],
)  # fmt: skip
def test_what_is_not_done_is_refused_in_one_line(asked: list[tuple[str, str]], line: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        read_query(asked)
    assert str(refusal.value) == line and refusal.value.http_status == 400


def test_every_parameter_of_the_official_library_is_decided_about() -> None:
    import inspect

    from deepgram.listen.v1.client import V1Client

    names = set(inspect.signature(V1Client.connect).parameters) - {"self", "authorization", "request_options"}
    assert len(names) > 20 and names <= DONE | WITHOUT_EFFECT | REFUSED.keys()
    assert not DONE & WITHOUT_EFFECT and not (DONE | WITHOUT_EFFECT) & REFUSED.keys()
