from __future__ import annotations

from html import unescape

import pysubs2
import pytest
import webvtt

from stream.exports import export
from stream.exports.text import plain
from tests.support.conversations import NASTY, conversation, emotion, heard, started

TIMES = [(500, 2000), (1500, 4250), (3000, 5000), (6000, 7000), (8000, 8500), (9000, 11000), (12000, 12400)]


def test_vtt_is_strictly_well_formed_with_speakers_emotions_and_words() -> None:
    cues = webvtt.WebVTT.from_string(export(conversation(), "vtt").decode(), strict=True).captions
    assert [cue.voice for cue in cues] == ["Anna", "Ben", "Ben", "Anna", "unknown", "Ben", "Anna"]
    assert [unescape(cue.text) for cue in cues] == [
        "[joy] =1+1 is two",
        f"[anger] {plain(NASTY)}",
        "[joy?] I talk over myself",
        "[neutral]",
        "[no label]",
        "[anger] still",
        "[no label]",
    ]


@pytest.mark.parametrize("name", ["vtt", "srt"])
def test_another_reader_finds_the_same_cues(name) -> None:
    cues = pysubs2.SSAFile.from_string(export(conversation(), name).decode(), format_=name)
    assert [(cue.start, cue.end) for cue in cues] == TIMES
    assert cues[0].plaintext.removeprefix("Anna: ") == "[joy] =1+1 is two"


def test_what_is_markup_elsewhere_is_read_as_words() -> None:
    vtt = pysubs2.SSAFile.from_string(export(conversation(), "vtt").decode(), format_="vtt")
    assert "<b>&" in unescape(vtt[1].text)
    srt = pysubs2.SSAFile.from_string(export(conversation(), "srt").decode(), format_="srt")
    assert srt[1].text == srt[1].plaintext and "‹b›&" in srt[1].text and "(/an8)" in srt[1].text


@pytest.mark.parametrize("speaker", ["</v><b>&amp;", "a --> b", ".class x", "\n\n", "😀 ‮x"])
def test_a_voice_can_have_any_name(speaker) -> None:
    anna = heard(0, speaker, 0, 1, "Hi")
    cue = webvtt.WebVTT.from_string(export([started(), anna, emotion(anna, 1, 0, 0)], "vtt").decode(), strict=True)[0]
    assert unescape(cue.voice) == (plain(speaker) or "unknown") and cue.text == "[neutral] Hi"


def test_hours_are_written_out() -> None:
    given = [started(), heard(0, "Anna", 359_999.5, 360_000.25, "late")]
    assert "99:59:59.500 --> 100:00:00.250" in export(given, "vtt").decode()
    assert pysubs2.SSAFile.from_string(export(given, "srt").decode(), format_="srt")[0].start == 359_999_500
