"""Material of the tuning: utterances in context with their targets, from GoEmotions and from tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.tables import Dialogue, TableError, labelled_rows
from model.encoders.text import Line
from model.labels import SENTIMENTS, LabelSet
from model.training.prepared import so_far


@dataclass(frozen=True)
class Examples:
    """Utterances in context, with their targets."""

    lines: Sequence[Sequence[Line]]
    target: NDArray[np.float32]
    """[n, C] float32 distribution over the classes (annotators may disagree)."""
    sentiment: NDArray[np.int64] | None = None
    """[n] class indices, `model.training.prepared.UNKNOWN` where there is none."""

    @property
    def length(self) -> NDArray[np.float64]:
        """[n] float64: characters of each example."""
        return np.array([sum(len(line.words) for line in lines) for lines in self.lines], dtype=np.float64)


def read_goemotions(path: Path) -> Examples:
    """Read GoEmotions in its Ekman grouping (Demszky et al. 2020): TSV of text, label ids, id. Raises TableError."""
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        target = np.zeros((len(rows), 7), np.float32)
        for number, (_, ids, *_) in enumerate(rows):
            target[number, [int(label) for label in ids.split(",")]] = 1
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from None
    except (ValueError, IndexError) as error:
        raise TableError(f"{path}: not GoEmotions' lines of text, label ids and id ({error})") from None
    return Examples([[Line("a", row[0])] for row in rows], target / target.sum(1, keepdims=True))


def read_conversations(dialogues: Sequence[Dialogue], labels: LabelSet, context: int) -> Examples:
    """The utterances of a table that have a label, each with up to `context` utterances before it."""
    rows = [row for dialogue in dialogues for row in dialogue.rows if row.is_labelled]
    emotion = [labels.emotions.index(row.emotion) for row in rows]
    sentiment = np.array([SENTIMENTS.index(row.sentiment) for row in rows])
    lines = labelled_so_far(dialogues, context)
    return Examples(lines, np.eye(len(labels.emotions), dtype=np.float32)[emotion], sentiment)


def labelled_so_far(dialogues: Sequence[Dialogue], context: int) -> list[list[Line]]:
    """For each utterance that has a label, in order: up to `context` utterances before it, and itself."""
    chosen = labelled_rows(dialogues)
    return [lines for lines, wanted in zip(so_far(dialogues, context), chosen, strict=True) if wanted]
