"""Transcripts and RTTM."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.speech.transcript import Cue, Transcript, read_transcript
from stream.speech.turns import AnnotationError, read_rttm

STM = ";; a comment\ncall 1 Ann 0.5 1.5 Hello there\ncall 2 Bob 1.6 2.0 <o,f0,male> Hi\n"
VTT = "WEBVTT\n\n00:00.500 --> 00:01.500\n<v Ann>Hello there\n\n00:01.600 --> 00:02.000\n<v Bob>Hi\n"
SRT = "1\n00:00:00,500 --> 00:00:01,500\nHello there\n\n2\n00:00:01,600 --> 00:00:02,000\nHi\n"
CSV = "start,end,text,speaker\n0.5,1.5,Hello there,Ann\n1.6,2.0,Hi,Bob\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [("a.stm", STM), ("a.vtt", VTT), ("a.srt", SRT), ("a.csv", CSV)])
def test_every_format_reads_the_same(tmp_path: Path, name: str, text: str) -> None:
    transcript = read_transcript(write(tmp_path, name, text), "call")
    assert [(c.start, c.end, c.text) for c in transcript.cues] == [(0.5, 1.5, "Hello there"), (1.6, 2.0, "Hi")]
    speakers = [cue.speaker for cue in transcript.cues]
    assert speakers == ([None, None] if name == "a.srt" else ["Ann", "Bob"])
    assert len(transcript.turns()) == (0 if name == "a.srt" else 2)


def test_stm_knows_channels() -> None:
    transcript = Transcript([Cue(0, 1, "a", "Ann", 0), Cue(1, 2, "b", "Bob", 1), Cue(2, 3, "c", "Cy", 1)])
    assert transcript.channel_names() == {0: "Ann"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.stm", "call 1 Ann zero 1.5 Hello\n", r"a.stm:1: not an STM line"),
        ("a.stm", "call 1 Ann\n", r"a.stm:1: not an STM line"),
        ("a.stm", "call 1 Ann 2.0 1.5 Hello\n", r"a.stm:1: .*start and end must be finite"),
        ("a.stm", "", "describes no recording"),
        ("a.stm", "one 1 A 0 1 x\ntwo 1 A 0 1 x\n", "does not contain 'call', only one, two"),
        ("a.vtt", "no header\n", "not a caption file"),
        ("a.csv", "begin,end,text\n", "no column start"),
        ("a.csv", "start,end,text\n1,x,y\n", r"a.csv:2: not a transcript line"),
        ("a.csv", "start,end,text\n1,nan,y\n", r"a.csv:2: .*start and end must be"),
        ("a.csv", "start,end,text\n", "contains no timed line"),
        ("a.doc", "x", "must be one of"),
    ],
)
def test_bad_transcripts_are_refused_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_transcript(write(tmp_path, name, text), "call")


def test_missing_and_binary_transcripts(tmp_path: Path) -> None:
    for name in ("a.stm", "a.vtt", "a.csv"):
        with pytest.raises(AnnotationError, match="no such file"):
            read_transcript(tmp_path / name, "call")
        (tmp_path / name).write_bytes(b"\xff\xfe\x80\x00")
        with pytest.raises(AnnotationError, match=name):
            read_transcript(tmp_path / name, "call")
        (tmp_path / name).unlink()


def test_words_go_to_the_utterance_that_holds_them() -> None:
    transcript = Transcript([Cue(0, 4, "one two three four"), Cue(5, 6, "five")])
    assert transcript.consume(0.0, 1.7) == "one two"  # the middle of "two", 1.5, lies inside
    assert transcript.consume(2.0, 4.0) == "three four"
    assert transcript.consume(7.0, 8.0) == ""
    assert (transcript.words, transcript.unused) == (5, 1)


def test_words_of_the_other_speaker_stay() -> None:
    transcript = Transcript([Cue(0, 1, "mine", "Ann", 0), Cue(0, 1, "yours", "Bob", 1)])
    assert transcript.consume(0, 1, channel=1) == "yours"
    assert transcript.consume(0, 1, speaker="Ann") == "mine"


@given(
    cues=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5), st.integers(0, 8)), max_size=8),
    cuts=st.lists(st.floats(0, 60), max_size=8),
)
def test_no_word_is_given_out_twice_or_lost(cues, cuts) -> None:
    names = iter(range(1000))
    transcript = Transcript([Cue(s, s + d, " ".join(str(next(names)) for _ in range(n))) for s, d, n in cues])
    edges = sorted({0.0, 60.0, *cuts})
    taken = [transcript.consume(a, b, exact=True) for a, b in itertools.pairwise(edges)]
    words = " ".join(taken).split()
    assert len(words) == len(set(words)) == transcript.words
    assert transcript.unused == 0


def test_rttm(tmp_path: Path) -> None:
    text = "SPEAKER call 1 1.0 0.5 <NA> <NA> Ann <NA> <NA>\nSPKR-INFO call 1 <NA> <NA> <NA> <NA> Ann <NA> <NA>\n"
    (turn,) = read_rttm(write(tmp_path, "a.rttm", text), "other name")
    assert (turn.start, turn.end, turn.speaker) == (1.0, 1.5, "Ann")
    with pytest.raises(AnnotationError, match=r"b.rttm:1: not an RTTM line"):
        read_rttm(write(tmp_path, "b.rttm", "SPEAKER call 1 1.0 -2 <NA> <NA> Ann\n"), "call")
    for length in ("inf", "nan"):
        with pytest.raises(AnnotationError, match="positive length"):
            read_rttm(write(tmp_path, "b.rttm", f"SPEAKER call 1 1.0 {length} <NA> <NA> Ann\n"), "call")
    with pytest.raises(AnnotationError, match="describes no recording"):
        read_rttm(write(tmp_path, "c.rttm", ""), "call")


@pytest.mark.data
def test_the_telephone_call_is_read(data: Path) -> None:
    folder = data / "conversations" / "telephone"
    assert len(read_transcript(folder / "sample.stm", "sample").turns()) == 13
    assert {turn.speaker for turn in read_rttm(folder / "sample.rttm", "sample")} == {"speaker90", "speaker91"}
