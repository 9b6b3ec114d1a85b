"""Captions and turns as meetings, recognizers and broadcasters write them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.speech.transcript import read_transcript
from stream.speech.turns import AnnotationError, LeftOut, read_rttm


def read(folder: Path, name: str, text: str) -> list[tuple[str | None, str]]:
    (folder / name).write_text(text, encoding="utf-8")
    return [(cue.speaker, cue.text) for cue in read_transcript(folder / name, "call").cues]


def cues(*lines: str, seconds: float = 2.0, gap: float = 1.0) -> str:
    """A VTT with a cue for each of the texts."""
    blocks = []
    for n, line in enumerate(lines):
        start = n * (seconds + gap)
        blocks.append(f"{stamp(start)} --> {stamp(start + seconds)}\n{line}\n")
    return "WEBVTT\n\n" + "\n".join(blocks)


def stamp(seconds: float) -> str:
    return f"{int(seconds // 60):02d}:{seconds % 60:06.3f}"


def test_zoom_names_speakers_before_their_words(tmp_path: Path) -> None:
    text = (
        "WEBVTT\n\n1\n00:00:01.000 --> 00:00:03.470\nAnna Lee: Hello Ben.\n\n2\n00:00:04.470 --> 00:00:06.810\n"
        "Ben Ray: I am angry.\n"
    ).replace("\n", "\r\n")
    assert read(tmp_path, "a.vtt", text) == [("Anna Lee", "Hello Ben."), ("Ben Ray", "I am angry.")]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("[SPEAKER_00]: ", "[SPEAKER_01]: "), ("SPEAKER_00", "SPEAKER_01")),
        (("[SPEAKER_00] ", "[SPEAKER_01] "), ("SPEAKER_00", "SPEAKER_01")),
        (("SPEAKER_00: ", "SPEAKER_01: "), ("SPEAKER_00", "SPEAKER_01")),
        (("Speaker 1: ", "Speaker 2: "), ("Speaker 1", "Speaker 2")),
        (("ANNA: ", "BEN: "), ("ANNA", "BEN")),
        (("Zoë 🙂: ", "José de la Cruz: "), ("Zoë 🙂", "José de la Cruz")),
        (("Anna Lee (Acme): ", "Dr. O'Neil-Smith: "), ("Anna Lee (Acme)", "Dr. O'Neil-Smith")),
        (("Lee, Anna: ", "Ray, Ben: "), ("Lee, Anna", "Ray, Ben")),
        (("jdoe: ", "msmith: "), ("jdoe", "msmith")),
        (("王伟: ", "李娜: "), ("王伟", "李娜")),
        (("&gt;&gt; ANNA: ", ">> BEN: "), ("ANNA", "BEN")),
        (("- Anna: ", "- Ben: "), ("Anna", "Ben")),
        (("<v Anna>", "<v.loud Ben>"), ("Anna", "Ben")),
    ],
)
def test_names_before_words(tmp_path: Path, names: tuple[str, str], found: tuple[str, str]) -> None:
    text = cues(*(f"{names[n % 2]}Hello number {n}: fine" for n in range(4)))
    assert read(tmp_path, "a.vtt", text) == [(found[n % 2], f"Hello number {n}: fine") for n in range(4)]
    blocks = re.sub(r"(\d\d:\d\d)\.(?=\d{3})", r"00:\1,", text).split("\n\n")[1:]
    numbered = "".join(f"{n}\n{block}\n" for n, block in enumerate(blocks, 1))
    assert [speaker for speaker, _ in read(tmp_path, "a.srt", numbered)] == [found[n % 2] for n in range(4)]


@pytest.mark.parametrize(
    "lines",
    [
        ("Note: this is a test.", "We begin.", "Then we go on.", "Note: take a break."),
        ("Note: this is a test.",),
        ("We meet at 10:30.", "10:30: it begins.", "11:00 is late."),
        ("Flour: 200 g", "Sugar: 100 g", "Butter: 50 g", "Milk: 1 l", "Eggs: 3", "Salt: a bit"),
        ("He said: go away.", "She said: no.", "They left.", "It rained."),
        ("See https://example.org: it is there.", "Or http://example.com", "Yes."),
        ("Remember this: never run.", "One more thing: eat.", "The point is: sleep."),
    ],
)
def test_what_stands_before_a_colon_may_be_nobody(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert read(tmp_path, "a.vtt", cues(*lines)) == [(None, line) for line in lines]


def test_a_cue_without_a_name_goes_on_where_names_are_the_habit(tmp_path: Path) -> None:
    text = cues("Anna: Well,", "I think so.", "Ben: No.", "Anna: Note: it is late.")
    assert read(tmp_path, "a.vtt", text) == [
        ("Anna", "Well,"), ("Anna", "I think so."), ("Ben", "No."), ("Anna", "Note: it is late."),
    ]  # fmt: skip


def test_two_voices_share_a_cue(tmp_path: Path) -> None:
    for lines in ("<v Anna>one two</v>\n<v Ben>three four</v>", "Anna: one two\nBen: three four"):
        (tmp_path / "a.vtt").write_text(cues(lines, lines, seconds=4))
        found = read_transcript(tmp_path / "a.vtt", "call").cues[:2]
        assert [(c.speaker, c.text, c.start, c.end) for c in found] == [
            ("Anna", "one two", 0, 2), ("Ben", "three four", 2, 4),
        ]  # fmt: skip
    assert read(tmp_path, "a.vtt", cues("[door] <v Anna>Who\nis it?</v> [opens]")) == [
        ("Anna", "[door] Who is it? [opens]")
    ]


def test_entities_tags_and_marks_are_no_words(tmp_path: Path) -> None:
    text = cues(r"{\an8}AT&amp;T &lrm;<i>is</i> &lt;here&gt;&nbsp;<c.red>now</c> &amp;amp; R&D a < b <00:00:01.500>so")
    assert read(tmp_path, "a.vtt", text) == [(None, "AT&T is <here> now &amp; R&D a < b so")]
    assert read(tmp_path, "a.srt", text) == [(None, "AT&T is <here> now &amp; R&D a < b so")]


def test_rolling_captions_say_each_word_once(tmp_path: Path) -> None:
    text = """WEBVTT
Kind: captions
Language: en

00:00:00.080 --> 00:00:02.389 align:start position:0%
{blank}
hello<00:00:00.320><c> and</c><00:00:00.480><c> welcome</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
hello and welcome
{blank}

00:00:02.399 --> 00:00:04.390 align:start position:0%
hello and welcome
to<00:00:02.600><c> the</c><00:00:02.800><c> show</c>

00:00:04.390 --> 00:00:04.400 align:start position:0%
to the show
{blank}

00:00:04.400 --> 00:00:06.000 align:start position:0%
to the show
welcome
""".replace("{blank}", " ")
    assert read(tmp_path, "a.vtt", text) == [(None, "hello and welcome"), (None, "to the show"), (None, "welcome")]
    assert read_transcript(tmp_path / "a.vtt", "call").language == "en"
    two = cues("hello ben", "hello ben\nhow are you", gap=0)
    assert read(tmp_path, "a.vtt", two) == [(None, "hello ben"), (None, "how are you")]
    growing = cues("so what", "so what do you", "so what do you think of it", gap=0)
    assert read(tmp_path, "a.vtt", growing) == [(None, "so what"), (None, "do you"), (None, "think of it")]


def test_who_says_the_same_twice_is_heard_twice(tmp_path: Path) -> None:
    lines = ("No.", "No.", "Thank you very much.", "Thank you very much.", "No way.", "Come on.")
    assert read(tmp_path, "a.vtt", cues(*lines, gap=0)) == [(None, line) for line in lines]


def test_a_line_that_is_none_is_left_out_with_its_number(tmp_path: Path) -> None:
    text = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n\n00:03.000 -> 00:04.000\nlost\n\n00:06.000 --> 00:05.000\nback\n\n"
        "00:99.000 --> 02:00.000\nx\n\n00:07.000 --> 00:08.000\nBye\u2028bye\n"
    )
    (tmp_path / "a.vtt").write_text(text, encoding="utf-8")
    left_out = LeftOut(tmp_path / "a.vtt")
    found = read_transcript(tmp_path / "a.vtt", "call", left_out).cues
    assert [cue.text for cue in found] == ["Hello", "Bye bye"] and left_out.count == 3
    assert left_out.note == "a.vtt: 3 lines left out, the first is line 6: not a timing of a cue"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.stm", "call 1 Ann 0 1 a\u2028b\n;; c\n\ncall 1 Ann x 2 bad\ncall 1 Ann 2 3 c\n", 4),
        ("a.csv", 'start,end,text\n0,1,"a\nb"\n1,x,bad\n2,3,c\n', 4),
        (
            "a.srt",
            "1\n00:00:00,000 --> 00:00:01,000\na b\n\n2\n00:00:09,000 --> 00:00:02,000\nbad\n\n3\n"
            "00:00:02,000 --> 00:00:03,000\nc\n",
            6,
        ),
    ],
)
def test_one_odd_line_costs_itself(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    left_out = LeftOut(tmp_path / name)
    assert [cue.text.split() for cue in read_transcript(tmp_path / name, "call", left_out).cues] == [["a", "b"], ["c"]]
    assert f"{name}: 1 line left out, the first is line {line}: " in str(left_out.note)


def test_nist_regions_that_are_not_scored_are_nobodys_words(tmp_path: Path) -> None:
    text = (
        "call 0 inter_segment_gap 0.0 1.0 <o,,unknown>\n"
        "call 0 Anna 1.0 3.47 <o,f0,f> Hello {a / b} (uh) <b_aside> {yes / {no / @}} %hesitation <e_aside> {@ / x}\n"
        "call 1 Ben 1.0 3.0 IGNORE_TIME_SEGMENT_IN_SCORING\n"
        "call 1 Excluded_Region 3.5 4.4 ignore_time_segment_in_scoring\n"
        "call 1 Ben 5 6 fine\n"
    )
    (tmp_path / "a.stm").write_text(text)
    found = read_transcript(tmp_path / "a.stm", "call")
    assert [(c.speaker, c.text, c.channel) for c in found.cues] == [("Anna", "Hello a uh yes", 0), ("Ben", "fine", 1)]
    (tmp_path / "b.stm").write_text(text.splitlines()[0])
    with pytest.raises(AnnotationError, match="nobody speaks in it"):
        read_transcript(tmp_path / "b.stm", "call")


@pytest.mark.parametrize(
    ("line", "recording", "speaker"),
    [
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> Anna Lee <NA> <NA>", "call", "Anna Lee"),
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> speaker 1 <NA> <NA>", "call", "speaker 1"),
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> Anna van der Lee 0.93 <NA>", "call", "Anna van der Lee"),
        ("SPEAKER my call 1 1.0 2.0 <NA> <NA> Anna <NA> <NA>", "my call", "Anna"),
        ("SPEAKER call 2 1 1.0 2.0 <NA> <NA> Anna Lee <NA>", "call 2", "Anna Lee"),
        ("SPEAKER\tcall\t1\t1.0\t2.0\t<NA>\t<NA>\tAnna Lee\t<NA>\t<NA>", "call", "Anna Lee"),
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> Anna <NA>", "call", "Anna"),
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> Anna 0.9 <NA>", "call", "Anna"),
        ("SPEAKER call 1 1.0 2.0 word lex Anna <NA> <NA>", "call", "Anna"),
        ("SPEAKER call 1 1.0 2.0 <NA> <NA> 7 <NA> <NA>", "call", "7"),
    ],
)
def test_names_of_an_rttm_may_have_blanks(tmp_path: Path, line: str, recording: str, speaker: str) -> None:
    (tmp_path / "a.rttm").write_text(line + "\nSPEAKER other 1 1.0 2.0 <NA> <NA> X <NA> <NA>\n")
    (turn,) = read_rttm(tmp_path / "a.rttm", recording)
    assert (turn.start, turn.end, turn.speaker) == (1.0, 3.0, speaker)


def test_odd_turns_are_left_out_and_counted(tmp_path: Path) -> None:
    text = (
        "SPEAKER call 1 1.0 2.47 <NA> <NA> Anna <NA> <NA>\n;; c\nSPEAKER call 1 4.0 0.000 <NA> <NA> Ben <NA> <NA>\n"
        "hello\nSPEAKER call 1 4.0 1 <NA> <NA> <NA> <NA> <NA>\nNOSCORE call 1 0 1 <NA> <NA> <NA> <NA>\n"
    )
    (tmp_path / "a.rttm").write_text(text)
    left_out = LeftOut(tmp_path / "a.rttm")
    assert len(read_rttm(tmp_path / "a.rttm", "call", left_out)) == 1 and left_out.count == 3
    assert "the first is line 3: " in str(left_out.note)


@pytest.mark.parametrize(
    "text",
    [
        "[00:00.000 --> 00:02.000]  Anna: Hello there\n[00:02.000 --> 00:04.000]  Ben: Hi\n",
        "00:00:00 Anna: Hello there\n00:00:02 Ben: Hi\n",
        "[0:00] Anna: Hello there\n[0:02] Ben: Hi\n",
        "00:00:00\tAnna:\tHello there\n00:00:02\tBen:\tHi\n",
        "Anna  0:00\nHello there\n\nBen  0:02\nHi\n",
    ],
)
def test_text_with_times(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "a.txt", text) == [("Anna", "Hello there"), ("Ben", "Hi")]
    assert [cue.start for cue in read_transcript(tmp_path / "a.txt", "call").cues] == [0, 2]
    with pytest.raises(AnnotationError, match="no line has its times"):
        read(tmp_path, "b.txt", "Anna: Hello there\nBen: Hi\n")
