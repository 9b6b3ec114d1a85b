from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest
from pyannote.core import Segment
from pyannote.database.util import load_rttm
from redis import Redis

from stream import events
from stream.bus.keys import Keys
from stream.exports import FORMATS, ExportError, export
from stream.exports.labelled import labelled
from stream.exports.text import distinct, plain
from tests.support.buses import publish_events
from tests.support.commands import here
from tests.support.conversations import NASTY, conversation, emotion, failed, heard, started


def test_an_utterance_has_its_last_label_its_words_and_the_name_that_stood_at_the_end() -> None:
    found = {entry.utterance: entry for entry in labelled(conversation())}
    assert [entry.start for entry in found.values()] == sorted(entry.start for entry in found.values())
    assert {number: entry.speaker for number, entry in found.items()} == {
        0: "Anna", 1: "Ben", 2: "Ben", 3: "Anna", 4: "unknown", 5: "Ben", 6: "Anna"
    }  # fmt: skip
    assert found[0].label is not None and found[0].label.final and found[0].label.emotion == "joy"
    assert found[0].text == "=1+1 is two" and found[0].words[0].word == "=1+1"
    assert found[3].text is None and found[3].label is not None
    assert found[4].label is None and found[4].failed == "no words & no <sound>"
    assert found[5].label is not None and found[5].label.trigger == "interval"
    assert found[6].label is None and found[6].text is None


def test_a_provisional_label_that_comes_after_the_final_one_changes_nothing() -> None:
    anna = heard(0, "Anna", 0, 1, "Hi")
    final, provisional = emotion(anna, 0, 1, 0, revision=1), emotion(anna, 1, 0, 0)
    assert labelled([started(), anna, final, provisional])[0].label == final


def test_speakers_that_are_merged_again_and_back_keep_one_name() -> None:
    def merge(speaker: str, into: str) -> events.SpeakerMerged:
        return events.SpeakerMerged(id="s:notice:1", session="s", speaker=speaker, into=into)

    spoken = [heard(number, speaker, number, number + 1, "") for number, speaker in enumerate("abc")]
    chain = [started(), *spoken, merge("a", "b"), merge("b", "c")]
    assert {entry.speaker for entry in labelled(chain)} == {"c"}
    assert {entry.speaker for entry in labelled([*chain, merge("c", "a"), merge("d", "d")])} == {"a"}


def test_an_utterance_always_lasts() -> None:
    assert labelled([started(), heard(0, "Anna", 3, 2, "")])[0].end == 3.001


@pytest.mark.parametrize(
    "given, name, message",
    [
        (conversation(), "docx", "unknown format 'docx': one of jsonl, csv"),
        ([], "jsonl", "no events"),
        (conversation()[1:], "csv", "no session.started"),
        ([started()], "vtt", "no utterances"),
        ([started(), started(session="other")], "html", "several sessions (s, other)"),
        ([started(time="noon"), heard(0, "Anna", 0, 1, "")], "emotionml", "'noon', which is not ISO 8601"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(given, name, message) -> None:
    with pytest.raises(ExportError) as refused:
        export(given, name)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "jsonl"])
@pytest.mark.parametrize("given", [[], [started()], conversation()[1:]])
def test_every_format_asks_for_a_session_with_utterances(name, given) -> None:
    with pytest.raises(ExportError):
        export(given, name)


@pytest.mark.integration
def test_asking_which_formats_there_are_loads_no_heavy_package() -> None:
    heavy = "pyarrow", "matplotlib", "jinja2", "pympi", "webvtt"
    code = f"import stream.exports, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_formats_have_suffixes_and_media_types_of_their_own() -> None:
    assert len({format.suffix for format in FORMATS.values()}) == len(FORMATS)
    assert all(format.suffix.startswith(".") and "/" in format.media_type for format in FORMATS.values())


def test_jsonl_is_the_events_as_they_are() -> None:
    lines = export(conversation(), "jsonl").decode().splitlines()
    assert [events.parse(line) for line in lines] == conversation()


def test_csv_has_a_row_an_utterance() -> None:
    table = pandas.read_csv(io.BytesIO(export(conversation(), "csv"))).set_index("utterance")
    assert list(table.index) == [0, 1, 2, 3, 4, 5, 6]
    assert table.start.tolist() == [0.5, 1.5, 3.0, 6.0, 8.0, 9.0, 12.0]
    assert table.emotion[0] == "joy" and table.probability[0] == 0.7 and table.final[0]
    assert table.loc[1, ["p_neutral", "p_joy", "p_anger"]].tolist() == [0.1, 0.1, 0.8]
    assert table.used[0] == "text audio" and table.missing[0] == "visual"
    assert table.text[1] == plain(NASTY) and pandas.isna(table.text[3])
    assert table.failed[4] == "no words & no <sound>" and pandas.isna(table.emotion[4])


def test_tables_have_arousal_and_the_sounds_of_a_voice() -> None:
    laughs = {"sound": "laughter", "start": 0.5, "end": 1.5, "probability": 0.8}
    voice = {"arousal": -0.25, "expression": None, "sounds": [laughs, laughs | {"sound": "sigh"}, laughs]}
    anna, ben = heard(0, "Anna", 0, 3, "Hi"), heard(1, "Ben", 4, 5, "Hm")
    given = [started(), anna, emotion(anna, 1, 0, 0, voice=voice), ben, emotion(ben, 1, 0, 0)]
    rows = list(csv.DictReader(io.StringIO(export(given, "csv").decode())))
    assert [(row["arousal"], row["sounds"]) for row in rows] == [("-0.25", "laughter sigh"), ("", "")]
    table = pyarrow.parquet.read_table(io.BytesIO(export(given, "parquet")))
    assert table["arousal"].to_pylist() == [-0.25, None] and table["sounds"].to_pylist() == [["laughter", "sigh"], None]


@pytest.mark.parametrize("text", ["=1+1", "+4 me", "-2", "@you", "\t=1", "\n@x", "＝cmd", " -1"])
def test_no_cell_of_a_csv_is_a_formula(text) -> None:
    given = [started(), heard(0, text, 0, 1, text), failed(0, text, 0, 1, text)]
    row = next(csv.DictReader(io.StringIO(export(given, "csv").decode())))
    assert row["text"] == row["speaker"] == row["failed"] == "'" + text.strip()


def test_parquet_keeps_types_and_words_as_they_were() -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(export(conversation(), "parquet")))
    rows = {row["utterance"]: row for row in table.to_pylist()}
    assert rows[0]["text"] == "=1+1 is two" and rows[1]["text"] == NASTY and rows[3]["text"] is None
    assert rows[1]["p_anger"] == 0.8 and rows[1]["uncertain"] is False and rows[4]["p_anger"] is None
    assert rows[0]["used"] == ["text", "audio"] and rows[4]["failed"] == "no words & no <sound>"
    assert json.loads(table.schema.metadata[b"undertone"])["consent"] == "both agreed"


def test_rttm_says_who_spoke_when(tmp_path: Path) -> None:
    given = [
        *conversation(),
        heard(7, "Ann a", 13, 14, ""),
        heard(8, "Ann\ta", 14, 15, ""),
        heard(9, '"A;<', 15, 16, ""),
    ]
    (tmp_path / "s.rttm").write_bytes(export(given, "rttm"))
    turns = load_rttm(tmp_path / "s.rttm")["s"]
    said = {segment: speaker for segment, _, speaker in turns.itertracks(yield_label=True)}
    assert said[Segment(1.5, 4.25)] == said[Segment(3, 5)] == "Ben"
    assert len(said) == 10 and [said[Segment(13, 14)], said[Segment(14, 15)]] == ["Ann_a", "Ann_a-2"]
    assert said[Segment(15, 16)] == "_A_"


def test_names_stay_apart_when_their_signs_do_not() -> None:
    assert distinct(["a", "a", "a-2", "", ""]) == ["a", "a-2", "a-2-2", "unknown", "unknown-2"]


REMARKED = [name for name in FORMATS if name not in ("csv", "srt", "textgrid")]  # which have no place for a remark


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_says_that_events_were_removed_before_they_were_read(name) -> None:
    gap = events.EventsMissed(id="s:missed:5-0", session="s", count=7)
    first, *rest = conversation()
    content = export([first, gap, *rest], name)
    if name == "jsonl":
        assert gap.wire().encode() in content
    elif name in REMARKED:
        assert b"7 events were removed from Redis before they were read" in content
    else:
        assert content == export([first, *rest], name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_session_whose_first_events_were_removed_is_written_as_far_as_it_goes(name) -> None:
    given = [events.EventsMissed(id="s:missed:5-0", session="s", count=7), *conversation()[1:]]
    if name in ("emotionml", "html"):
        with pytest.raises(ExportError, match="^7 events were removed .*, session.started among them"):
            export(given, name)
    else:
        assert export(given, name)


@pytest.mark.integration
def test_an_export_says_at_the_terminal_that_events_were_removed(redis_url: str, tmp_path: Path) -> None:
    publish_events(redis_url, conversation())
    admin = Redis.from_url(redis_url)
    admin.xtrim(Keys("s").events, maxlen=len(conversation()) - 2, approximate=False)
    for source in ("s", str(tmp_path / "events.jsonl")):
        done = here("export", source, "--redis", redis_url, "-f", "srt")
        assert done.returncode == 0 and done.stdout.startswith("1\n")
        assert done.stderr == f"{source} is not whole: 2 events were removed from Redis before they were read\n"
        (tmp_path / "events.jsonl").write_text(here("export", source, "--redis", redis_url).stdout)
