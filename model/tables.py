"""Conversation tables: one CSV row an utterance, in conversation order (schema: README, "Your own table")."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from model.labels import SENTIMENTS, LabelSet, label_set_of
from model.prosody import COLUMNS, Array

REQUIRED = ("dialogue_id", "speaker", "text", "emotion", "sentiment")


@dataclass(frozen=True)
class Row:
    """One annotated utterance."""

    speaker: str
    text: str
    emotion: str
    sentiment: str
    prosody: Array | None
    """[7] Praat's columns, NaN where not known; None when the table has none for this row."""


@dataclass(frozen=True)
class Dialogue:
    """One conversation, in order."""

    id: str
    rows: list[Row]


class TableError(ValueError):
    """A table that cannot be read; the message names the file and the line."""


def read_table(path: Path) -> tuple[LabelSet, list[Dialogue]]:
    """Read a conversation table and find its label set. Raises TableError with file and line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise TableError(f"{path}: no column {', '.join(missing)}")
            rows = [(record["dialogue_id"], _row(path, reader.line_num, record)) for record in reader]
    except FileNotFoundError:
        raise TableError(f"{path}: no such table") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: not a UTF-8 CSV table ({error})") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror})") from None
    if not rows:
        raise TableError(f"{path}: holds no utterance")
    try:
        labels = label_set_of({row.emotion for _, row in rows})
    except ValueError as error:
        raise TableError(f"{path}: {error}") from None
    dialogues = [Dialogue(key, [row for _, row in group]) for key, group in groupby(rows, key=lambda pair: pair[0])]
    return labels, dialogues


def _row(path: Path, line: int, record: dict[str, str]) -> Row:
    if record["sentiment"] not in SENTIMENTS:
        raise TableError(f"{path}:{line}: sentiment {record['sentiment']!r} is none of {', '.join(SENTIMENTS)}")
    if not record["emotion"] or not record["speaker"]:
        raise TableError(f"{path}:{line}: an utterance needs an emotion and a speaker")
    try:
        values = np.array([float(record.get(name) or "nan") for name in COLUMNS], dtype=np.float32)
    except ValueError as error:
        raise TableError(f"{path}:{line}: {error}") from None
    prosody = values if np.isfinite(values).any() else None
    return Row(record["speaker"], record["text"], record["emotion"], record["sentiment"], prosody)
