"""Releases of corpora, as they are downloaded: small ones made here after the published layouts."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from model.data.corpora import read_emorynlp, read_iemocap, read_meld
from model.data.feature_pickles import read_features
from model.data.tables import Dialogue, Row, TableError, read_table, write_table
from tests.support.corpora import MELD_HEADER, meld_release


def test_meld(tmp_path: Path) -> None:
    corpus = read_meld(meld_release(tmp_path))
    first, second = corpus.splits["train"]
    assert [first.id, second.id] == ["0", "1"] and len(first.rows) == 2
    assert first.rows[0].text == "I don't know, really…" and first.rows[0].emotion == "sadness"
    assert first.rows[0].start == pytest.approx(976.059) and first.rows[0].end == pytest.approx(981.731)
    assert corpus.clips["dev"] == [None, None, None]
    write_table(tmp_path / "table.csv", "dev", corpus.splits["dev"])
    labels, dialogues = read_table(tmp_path / "table.csv")
    assert labels.name == "meld" and dialogues[0].rows[0].start == pytest.approx(976.059)
    (tmp_path / "dev_sent_emo.csv").write_text(MELD_HEADER + "1,Hi,A,joy,positive,0,0,1,1,soon,later\n")
    with pytest.raises(TableError, match="dev_sent_emo.csv:2: times"):
        read_meld(tmp_path)
    with pytest.raises(TableError, match="is this the folder"):
        read_meld(tmp_path / "elsewhere")


def test_emorynlp(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"emorynlp_{split}_final.csv").write_text(
            "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time\n"
            "\"Hi, you.\",['Ann B'],Neutral,1,1,2,15,00:00:03.795,00:00:05.004\n"
            "Yay!,\"['Ann B', 'Cid D']\",Joyful,1,2,2,15,,\n"
            "No!,['Cid D'],Mad,2,1,2,15,,\n"
        )
    scene, other = read_emorynlp(tmp_path).splits["test"]
    assert (scene.id, other.id) == ("2_15_1", "2_15_2")
    assert [row.sentiment for row in (*scene.rows, *other.rows)] == ["neutral", "positive", "negative"]
    assert scene.rows[1].speaker == "Ann B and Cid D"


def iemocap_release(folder: Path) -> Path:
    for session in (1, 5):
        dialog = folder / f"Session{session}" / "dialog"
        for part in ("EmoEvaluation", "transcriptions"):
            (dialog / part).mkdir(parents=True)
        for number in range(11 if session == 1 else 1):
            name = f"Ses0{session}F_impro{number:02}"
            (dialog / "EmoEvaluation" / f"{name}.txt").write_text(
                "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
                f"[6.2 - 8.2]\t{name}_F000\tneu\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n\n"
                f"[9.1 - 10.0]\t{name}_F001\txxx\t[2.5, 2.5, 2.5]\n\n"
                f"[3.0 - 5.5]\t{name}_M000\tfru\t[2.0, 3.0, 3.5]\n"
            )
            (dialog / "transcriptions" / f"{name}.txt").write_text(
                f"{name}_M000 [003.0000-005.5000]: Next!\n{name}_F000 [006.2000-008.2000]: Excuse me.\n"
            )
    return folder


def test_iemocap(tmp_path: Path) -> None:
    corpus = read_iemocap(iemocap_release(tmp_path))
    assert [len(corpus.splits[split]) for split in ("train", "dev", "test")] == [10, 1, 1]
    rows = corpus.splits["train"][0].rows
    assert [(row.speaker, row.text, row.emotion) for row in rows] == [
        ("M", "Next!", "frustrated"),
        ("F", "Excuse me.", "neutral"),
    ]
    assert corpus.left_out == {"xxx": 12}
    with pytest.raises(TableError, match="IEMOCAP_full_release"):
        read_iemocap(tmp_path / "Session1")


def features(corpus: str) -> tuple[object, ...]:
    rng = np.random.default_rng(0)
    keys = [f"Ses{n}" for n in range(12)] if corpus == "iemocap" else list(range(12))
    who = {"iemocap": ["F", "M"], "meld": [[1, 0, 0], [0, 0, 1]]}[corpus]
    modalities = [{key: [rng.normal(size=width) for _ in range(2)] for key in keys} for width in (10, 6, 4)]
    labels = {key: [3, 2] for key in keys}
    said = {key: ["No!", "Well."] for key in keys}
    parts = (keys, dict.fromkeys(keys, who), labels, *modalities, said, keys[:10], keys[10:])
    return parts if corpus == "iemocap" else (*parts, None)


@pytest.mark.parametrize(("corpus", "emotion"), [("iemocap", "angry"), ("meld", "sadness")])
@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_feature_pickles(tmp_path: Path, corpus: str, emotion: str, protocol: int) -> None:
    file = tmp_path / "features.pkl"
    file.write_bytes(pickle.dumps(features(corpus), protocol=protocol))
    read = read_features(file)
    assert [len(read.splits[split]) for split in ("train", "dev", "test")] == [9, 1, 2]
    row = read.splits["train"][0].rows[0]
    assert row.emotion == emotion and row.text == "No!"
    assert {name: values.shape for name, values in row.features.items()} == {
        "text": (10,),
        "audio": (6,),
        "visual": (4,),
    }
    write_table(tmp_path / "train.csv", "train", read.splits["train"])
    _, dialogues = read_table(tmp_path / "train.csv")
    assert np.array_equal(dialogues[0].rows[0].features["audio"], row.features["audio"])


class Attack:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.file}",)


def nested(levels: int, pair: bytes) -> bytes:
    """A pair of pairs of pairs, of which each level is stored once."""
    pairs = b"".join(pair.replace(b"N", bytes([n])).replace(b"M", bytes([n + 1])) for n in range(levels))
    return b"K\x07q\x00" + pairs


@pytest.mark.parametrize(
    "content",
    [
        b"}" + nested(60, b"h\x4e\x86q\x4d") + b"K\x00s",  # a key of tuples, whose hash has no end
        b"}K\x01" + 200 * b"2\x86" + b"K\x00s",
        b"\x8f(" + nested(60, b"h\x4e\x86q\x4d") + b"\x90",
        b"cbuiltins\nfrozenset\n]" + nested(60, b"h\x4e\x86q\x4d") + b"a\x85R",
        nested(60, b"]q\x4d(h\x4eh\x4ee"),  # lists, which an array would copy
        b"]q\x00(h\x00h\x00e",  # a list in itself
        b"K\x01K\x02a",
    ],
)
def test_a_pickle_costs_no_more_than_its_size_allows(tmp_path: Path, content: bytes) -> None:
    """459 bytes took 40 seconds, a few more for ever."""
    file = tmp_path / "f.pkl"
    file.write_bytes(b"\x80\x04" + content + b".")
    assert file.stat().st_size < 1000
    with pytest.raises(TableError, match=r"f.pkl: not a pickle that we read: it (takes too long|puts something)"):
        read_features(file)


def test_a_dialogue_that_is_named_again_and_again_is_refused(tmp_path: Path) -> None:
    *parts, train, test = features("iemocap")[:9]
    (tmp_path / "f.pkl").write_bytes(pickle.dumps([*parts, [*train] * 1000, test]))
    with pytest.raises(TableError, match="named twice"):
        read_features(tmp_path / "f.pkl")


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps((Attack(trace),)))
    with pytest.raises(TableError, match=r"bad.pkl: .*system"):
        read_features(tmp_path / "bad.pkl")
    assert not trace.exists()
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps(features("meld"))[:200])
    with pytest.raises(TableError, match="cut.pkl"):
        read_features(tmp_path / "cut.pkl")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(TableError, match="not laid out"):
        read_features(tmp_path / "other.pkl")


def test_bad_lines_are_named(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    header = "dialogue_id,speaker,text,emotion,sentiment,pitch_mean_hz\n"
    file.write_text(header + "1,A,Hi,joy,good,\n1,A,Hi,joy,positive,high\n1,,Hi,joy,positive,\n1,A\n1,A,Hi,joy,sad,\n")
    with pytest.raises(TableError) as caught:
        read_table(file)
    assert "train.csv:2: sentiment" in str(caught.value) and "train.csv:3: pitch" in str(caught.value)
    assert str(caught.value).endswith("and 2 more")
    file.write_text(header + "1,A,Hi,joy,positive,\n2,A,Hi,joy,positive,\n1,A,Hi,joy,positive,\n")
    with pytest.raises(TableError, match="dialogue 1 is interrupted"):
        read_table(file)


def test_features_must_fit_their_table(tmp_path: Path) -> None:
    row = Row("A", "Hi", "joy", "positive", None, features={"voice": np.ones(3, np.float32)})
    write_table(tmp_path / "a.csv", "train", [Dialogue("1", [row, row])])
    write_table(tmp_path / "b.csv", "train", [Dialogue("1", [row])])
    (tmp_path / "a.safetensors").replace(tmp_path / "b.safetensors")
    with pytest.raises(TableError, match=r"voice is \[2, 3\], not \[1, width\]"):
        read_table(tmp_path / "b.csv")
