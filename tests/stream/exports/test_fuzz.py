"""Names and words of any kind, through every format and back by its reader."""

from __future__ import annotations

import csv
import io
from html import unescape
from pathlib import Path

import pyarrow.parquet
import pysubs2
import pytest
import webvtt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree, html
from pyannote.database.util import load_rttm

from stream.events import Event, SpeakerMerged
from stream.exports import export
from stream.exports.text import plain
from tests.support.conversations import NASTY, emotion, heard, started
from tests.support.export_readers import EMO, OURS, intervals, read

PIECES = ["-->", "<v x>", "</td>", "&amp;", "&", '"', '""', "'", "\n\n", "\r", "=", "\x00", "\x85", "\u2028", "{\\an8}"]
texts = st.text(max_size=12) | st.lists(st.sampled_from([*PIECES, "NOTE", "1", "x", "😀", NASTY]), max_size=4).map(
    "".join
)
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sessions = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)


def made(lines: list[tuple[str, str]]) -> list[Event]:
    spoken = [heard(number, speaker, number, number + 2, words) for number, (speaker, words) in enumerate(lines)]
    """Utterances of two seconds, one every second."""
    return [started(checkpoint=lines[0][0]), *spoken, *(emotion(one, 0.5, 0.3, 0.2) for one in spoken)]


@many
@given(sessions)
def test_tables(lines) -> None:
    rows = list(csv.DictReader(io.StringIO(export(made(lines), "csv").decode(), newline="")))
    assert [(row["speaker"].lstrip("'"), row["text"].lstrip("'")) for row in rows] == [
        (plain(speaker or "unknown").lstrip("'"), plain(words).lstrip("'")) for speaker, words in lines
    ]
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row.values() if cell)
    table = pyarrow.parquet.read_table(io.BytesIO(export(made(lines), "parquet")))
    assert list(zip(table["speaker"].to_pylist(), table["text"].to_pylist(), strict=True)) == [
        (speaker or "unknown", words) for speaker, words in lines
    ]


@many
@given(sessions)
def test_captions(lines) -> None:
    vtt, srt = (export(made(lines), name).decode() for name in ("vtt", "srt"))
    cues = webvtt.WebVTT.from_string(vtt, strict=True).captions
    assert [(unescape(cue.voice), unescape(cue.text)) for cue in cues] == [
        (plain(speaker) or "unknown", f"[neutral] {plain(words)}".strip()) for speaker, words in lines
    ]
    for text, name in ((vtt, "vtt"), (srt, "srt")):
        read_again = pysubs2.SSAFile.from_string(text, format_=name)
        assert [cue.start for cue in read_again] == [1000 * number for number in range(len(lines))]
    assert [cue.text == cue.plaintext for cue in pysubs2.SSAFile.from_string(srt, format_="srt")] == [True] * len(lines)


@many
@given(sessions)
def test_rttm(tmp_path: Path, lines) -> None:
    (tmp_path / "s.rttm").write_bytes(export(made([("x" + speaker, words) for speaker, words in lines]), "rttm"))
    turns = load_rttm(tmp_path / "s.rttm")["s"]
    assert len(turns) == len(lines) and len(turns.labels()) == len({speaker for speaker, _ in lines})


@many
@given(sessions)
def test_tiers(tmp_path: Path, lines) -> None:
    words = sorted(plain(words) for _, words in lines if plain(words))
    _, tiers = intervals(export(made(lines), "textgrid"), tmp_path)
    assert sorted(t for name, tier in tiers.items() for _, _, t in tier if t and t != "neutral") == [
        word for word in words if word != "neutral"
    ]
    eaf = etree.fromstring(export(made(lines), "elan"))
    assert sorted(note.findtext("ANNOTATION_VALUE") for note in eaf.iter("ALIGNABLE_ANNOTATION")) == sorted(
        plain(words) for _, words in lines
    )


@many
@given(sessions)
def test_emotionml(lines) -> None:
    root = read(export(made(lines), "emotionml"))
    infos = [one.find(f"{EMO}info") for one in root.iter(f"{EMO}emotion")]
    assert [(info.findtext(f"{OURS}speaker"), info.findtext(f"{OURS}words")) for info in infos] == [
        (plain(speaker or "unknown"), plain(words)) for speaker, words in lines
    ]


@settings(many, max_examples=10)
@given(sessions)
def test_report(lines) -> None:
    page = html.document_fromstring(export(made(lines), "html").decode())
    rows = [
        [cell.text_content() for cell in row.iter("td")] for row in page.xpath("//table[@id='utterances']/tbody/tr")
    ]
    assert [(row[1], row[2]) for row in rows] == [
        (plain(speaker) or "unknown", plain(words)) for speaker, words in lines
    ]
    assert not list(page.iter("script", "b", "v"))


@pytest.mark.parametrize("name", ["vtt", "srt", "rttm", "elan", "textgrid", "emotionml", "html", "csv", "jsonl"])
def test_no_format_lets_a_control_character_through(name) -> None:
    lone = [
        started(),
        heard(0, "\x00\x1b\x9b", 0, 1, "\x07\x0b\ufffe"),
        SpeakerMerged(id="s:1", session="s", speaker="a", into="\x00"),
    ]
    assert not set(export(lone, name).decode()) & set("\x00\x07\x0b\x1b\x9b\ufffe") or name == "jsonl"
