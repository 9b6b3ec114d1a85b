"""Releases of corpora: MELD, EmoryNLP, IEMOCAP, and pickled features."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from model.data.corpora import read_emorynlp, read_iemocap, read_meld
from model.data.feature_pickles import read_features
from model.data.tables import TableError
from tests.fuzz.mutations import WORDS, mutated
from tests.fuzz.target import Target

MELD = (
    b"Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    b'1,"I don\x92t know, really\x85",Ross,sadness,negative,0,0,4,7,"00:16:16,059","00:16:21,731"\n'
    b'2,Great!,Joey,joy,positive,0,1,4,7,"00:16:21,940","00:16:23,442"\n'
)
EMORY = (
    b"Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time\n"
    b"\"Hi, you.\",['Ann B'],Neutral,1,1,2,15,00:00:03.795,00:00:05.004\n"
    b"Yay!,\"['Ann B', 'Cid D']\",Joyful,1,2,2,15,,\n"
)
LABELS = (
    b"[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n[10.0 - 11.3]\tSes01F_impro01_M001\tfru\t[2, 4, 3]\n"
)
WORDS_SAID = b"Ses01F_impro01_F000 [006.29-008.23]: Excuse me.\nSes01F_impro01_M001 [010.0-011.3]: Do you have forms?\n"
FEATURES = pickle.dumps(
    (
        {"d1": ["i0", "i1"]},
        {"d1": ["F", "M"]},
        {"d1": [0, 3]},
        *({"d1": [np.ones(2, np.float32)] * 2} for _ in range(3)),
        {"d1": ["Hello.", "You!"]},
        ["d1"],
        ["d1"],
    ),
    protocol=2,
)


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    session = folder / "Session1" / "dialog"
    labels, said = (session / name / "Ses01F_impro01.txt" for name in ("EmoEvaluation", "transcriptions"))
    for file in (labels, said):
        file.parent.mkdir(parents=True)

    def take(given: tuple[str, bytes]) -> None:
        corpus, content = given
        match corpus:
            case "meld":
                for name in ("train", "dev", "test"):
                    (folder / f"{name}_sent_emo.csv").write_bytes(content)
                read_meld(folder)
            case "emorynlp":
                for name in ("train", "dev", "test"):
                    (folder / f"emorynlp_{name}_final.csv").write_bytes(content)
                read_emorynlp(folder)
            case "pickle":
                (folder / "features.pkl").write_bytes(content)
                read_features(folder / "features.pkl")
            case _:
                labels.write_bytes(content if corpus == "labels" else LABELS)
                said.write_bytes(content if corpus == "words" else WORDS_SAID)
                read_iemocap(folder)

    seeds = {"meld": MELD, "emorynlp": EMORY, "labels": LABELS, "words": WORDS_SAID, "pickle": FEATURES}
    files = [st.tuples(st.just(corpus), mutated([seed], WORDS)) for corpus, seed in seeds.items()]
    yield Target(st.one_of(files), take, refusals=(TableError,))
