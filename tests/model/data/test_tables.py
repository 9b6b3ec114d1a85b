from __future__ import annotations

from pathlib import Path

import pytest

from model.data.tables import Dialogue, Row, TableError, labelled_rows, read_table, write_table
from model.labels import LABEL_SETS

HEADER = "dialogue_id,speaker,text,emotion,sentiment,intensity_mean_db\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_become_dialogues_in_order(tmp_path: Path) -> None:
    table = HEADER + "0,Ann,Hi,joy,positive,61.5\n0,Bob,Oh,anger,negative,\n1,Ann,So?,neutral,neutral,\n"
    labels, dialogues = read_table(write(tmp_path, table))
    assert labels.name == "meld"
    assert [[row.text for row in dialogue.rows] for dialogue in dialogues] == [["Hi", "Oh"], ["So?"]]
    assert dialogues[0].rows[0].prosody[0] == pytest.approx(61.5)
    assert dialogues[0].rows[1].prosody is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column"),
        (HEADER, "no utterance"),
        ("speaker,text\n", "no column dialogue_id"),
        (HEADER + "0,Ann,Hi,joy,sunny,\n", "table.csv:2: sentiment 'sunny'"),
        (HEADER + "0,Ann,Hi,joy,positive,loud\n", "table.csv:2: .*loud"),
        (HEADER + "0,Ann,Hi,bored,neutral,\n", "none of the label sets"),
        (HEADER + "0,,Hi,joy,positive,\n", "needs an emotion and a speaker"),
    ],
)
def test_bad_tables_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table(write(tmp_path, text))


def test_missing_and_binary_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such table"):
        read_table(tmp_path / "none.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TableError, match="not a UTF-8 CSV"):
        read_table(path)


@pytest.mark.data
@pytest.mark.parametrize("corpus", ["meld", "iemocap", "emorynlp"])
def test_the_public_tables_are_read_whole(data: Path, corpus: str) -> None:
    sizes = {"meld": (1109, 114), "iemocap": (647, 12), "emorynlp": (954, 89)}
    labels, dialogues = read_table(data / corpus / "dev.csv")
    assert labels.name == corpus
    assert (sum(len(d.rows) for d in dialogues), len(dialogues)) == sizes[corpus]


def test_a_row_without_emotion_and_sentiment_is_context(tmp_path: Path) -> None:
    labels, dialogues = read_table(
        write(tmp_path, HEADER + "0,Ann,Hi,,,\n0,Bob,Oh,anger,negative,\n1,Ann,So?,joy,positive,\n")
    )
    assert labels.name == "meld" and labelled_rows(dialogues).tolist() == [False, True, True]
    for table, message in (
        ("0,Ann,Hi,joy,,\n", "sentiment '' is none of"),
        ("0,Ann,Hi,,positive,\n", "needs an emotion and a speaker"),
        ("0,Ann,Hi,joy,positive,\n1,Ann,Hi,,,\n", "dialogue 1 has no utterance with an emotion; leave it out"),
    ):
        with pytest.raises(TableError, match=message):
            read_table(write(tmp_path, HEADER + table))


def test_a_table_may_name_its_label_set_and_whose_words_they_are(tmp_path: Path) -> None:
    """A few labels do not tell: "sad" is IEMOCAP's and EmoryNLP's."""
    rows = [Row("Ann", "Hi", "sad", "negative", None, 0.5, 1.0, recognized=True), Row("Bob", "Oh", "", "", None)]
    dialogues = [Dialogue("call", rows)]
    write_table(tmp_path / "named.csv", "train", dialogues, LABEL_SETS["emorynlp"])
    labels, again = read_table(tmp_path / "named.csv")
    assert labels.name == "emorynlp" and again == dialogues
    write_table(tmp_path / "unnamed.csv", "train", dialogues)
    assert read_table(tmp_path / "unnamed.csv")[0].name == "iemocap"
    header = HEADER.strip() + ",label_set,recognized\n"
    for table, message in (
        ("0,Ann,Hi,joy,positive,,emorynlp,\n", "emotions joy do not belong to the label set emorynlp"),
        ("0,Ann,Hi,sad,negative,,mine,\n", "label_set mine: one of emorynlp, iemocap, meld for all rows"),
        ("0,Ann,Hi,sad,negative,,meld,\n0,Ann,Hi,sad,negative,,emorynlp,\n", "label_set emorynlp, meld: one of"),
        ("0,Ann,Hi,sad,negative,,emorynlp,perhaps\n", "recognized 'perhaps' is neither yes nor no"),
    ):
        with pytest.raises(TableError, match=message):
            read_table(write(tmp_path, header + table))
