"""Reader of the feature pickles of DialogueGCN and MMGCN that executes nothing in them."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.corpora import Corpus
from model.data.pickle_costs import check_cost
from model.data.tables import Dialogue, Row, TableError
from model.labels import SENTIMENT

IEMOCAP = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
NUMBER = re.compile(r"[<>=|][biuf][1248]")


class _Type:
    """Stand-in for numpy.dtype, whose state NumPy takes unchecked: a wrong one would crash the process."""

    def __init__(self, name: str, *_: object) -> None:
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def numbers(self, content: str | bytes) -> NDArray[Any]:
        """[n] values of this type. Raises UnpicklingError for a type that is no number."""
        if not NUMBER.fullmatch(f"{self._order}{self._name}"):
            raise pickle.UnpicklingError(f"it wants arrays of {self._name!r}, and numbers are all that is read")
        raw = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(raw, f"{self._order}{self._name}")


class _Array:
    """Stand-in for an array of numbers."""

    def __init__(self, *_: object) -> None:
        self._values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, content = state
        self._values = kind.numbers(content).reshape(shape, order="F" if by_column else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self._values.astype(dtype)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> Any:
        return self._values[place]


def _scalar(kind: _Type, content: str | bytes) -> Any:
    return kind.numbers(content)[0]


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


READ: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encoded,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    **{(package, kind.__name__): kind for package in ("builtins", "__builtin__") for kind in (set, frozenset)},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}
"""Names that a pickle may use, with the stand-in for each."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickler of arrays and built-in containers; any other name in the file is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in READ:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, and arrays are all that is read")
        return READ[module, name]


def _load(content: bytes) -> Any:
    """Unpickle arrays. Raises any exception that a broken pickle may cause."""
    check_cost(content)
    return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()


def read_features(file: Path) -> Corpus:
    """Read IEMOCAP_features.pkl (9 parts) or MELD_features_raw1.pkl (10 parts), which hold dicts by dialogue.

    Dev is the last tenth of the training dialogues, in the pickle's order. Raises TableError.
    """
    try:
        parts = _load(file.read_bytes())
    except OSError as error:
        raise TableError(f"{file}: {error.strerror}") from None
    except Exception as error:
        raise TableError(f"{file}: not a pickle that we read: {error}") from None
    try:
        _, speakers, labels, text, audio, visual, sentences, train, test, *_ = parts
        corpus, emotions = ("meld", MELD) if np.ndim(next(iter(speakers.values()))[0]) else ("iemocap", IEMOCAP)
        sentiment = SENTIMENT[corpus]

        def dialogue(key: Any) -> Dialogue:
            rows = []
            for turn, words in enumerate(sentences[key]):
                emotion = emotions[int(labels[key][turn])]
                speaker = speakers[key][turn]
                name = str(speaker) if np.ndim(speaker) == 0 else f"speaker {int(np.argmax(speaker)) + 1}"
                features = {
                    modality: np.asarray(values[key][turn], dtype=np.float32)
                    for modality, values in (("text", text), ("audio", audio), ("visual", visual))
                }
                row = Row(name, str(words), emotion, sentiment.get(emotion, "negative"), None, features=features)
                rows.append(row)
            return Dialogue(str(key), rows)

        if len({*train, *test}) < len(train) + len(test):
            raise ValueError("a dialogue is named twice")
        training, testing = ([dialogue(key) for key in sorted(keys)] for keys in (train, test))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, StopIteration) as error:
        raise TableError(f"{file}: not laid out like DialogueGCN's or MMGCN's features ({error!r})") from None
    dev_size = max(1, len(training) // 10)
    return Corpus({"train": training[:-dev_size], "dev": training[-dev_size:], "test": testing})
