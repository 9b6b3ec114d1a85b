"""Conversation tables: one CSV row an utterance, in conversation order (schema: deploy/guide/training.md)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from model.encoders.prosody import COLUMNS, Array
from model.errors import InputError
from model.labels import LABEL_SETS, SENTIMENTS, LabelSet, label_set_of

REQUIRED_COLUMNS = ("dialogue_id", "speaker", "text", "emotion", "sentiment")
WRITTEN_COLUMNS = ("split", "dialogue_id", "turn", "speaker", "text", "emotion", "sentiment", "start", "end")
SESSION_COLUMNS = ("recognized", "label_set")
"""Written besides for a table of sessions: "yes" where a recognizer wrote the text, else "no"; and the name of the
label set, which a few labels do not tell."""
MAX_NUMBER = float(np.finfo(np.float32).max)
MAX_ERRORS_SHOWN = 3  # invalid lines that an error message names


@dataclass(frozen=True)
class Row:
    """One utterance."""

    speaker: str
    text: str
    emotion: str
    """The label; "": there is none, and the utterance is context of others, neither scored nor a target of training."""
    sentiment: str
    """The coarse label; "" where the emotion is."""
    prosody: Array | None
    """[7] float32 `model.encoders.prosody.COLUMNS`, NaN where unknown; None when the table has none for this row."""
    start: float | None = None
    """Seconds in the recording; None: unknown."""
    end: float | None = None
    features: dict[str, Array] = field(default_factory=dict)
    """Precomputed embeddings [D_m] float32 by modality."""
    recognized: bool = False
    """A recognizer wrote the text."""

    @property
    def is_labelled(self) -> bool:
        """True if it has a label; else it is context."""
        return self.emotion != ""


@dataclass(frozen=True)
class Dialogue:
    """One conversation, in order."""

    id: str
    rows: list[Row]


def labelled_rows(dialogues: Sequence[Dialogue]) -> NDArray[np.bool_]:
    """[n] bool: which of all utterances, in order, have a label."""
    return np.array([row.is_labelled for dialogue in dialogues for row in dialogue.rows], dtype=bool)


class TableError(InputError, ValueError):
    """A table that cannot be read; the message names the file and the line."""


def read_table(path: Path) -> tuple[LabelSet, list[Dialogue]]:
    """Read a conversation table and determine its label set: the one that it names (`label_set`), else the first that
    has all of its emotions.

    Embeddings of its utterances may be in `x.safetensors` beside `x.csv`: a tensor [rows, D] float32 for each modality,
    NaN where absent. Raises TableError, which names the file and the first invalid lines.
    """
    problems: list[str] = []
    rows: list[tuple[str, Row]] = []
    named: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise TableError(f"{path}: no column {', '.join(missing)}")
            for record in reader:
                try:
                    rows.append((record["dialogue_id"], _row(record)))
                    named.add(record.get("label_set") or "")
                except ValueError as error:
                    problems.append(f"{path}:{reader.line_num}: {error}")
    except FileNotFoundError:
        raise TableError(f"{path}: no such table") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: not a UTF-8 CSV table ({error})") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror})") from None
    if problems:
        more = f"; and {len(problems) - MAX_ERRORS_SHOWN} more" if len(problems) > MAX_ERRORS_SHOWN else ""
        raise TableError("; ".join(problems[:MAX_ERRORS_SHOWN]) + more)
    if not rows:
        raise TableError(f"{path}: holds no utterance")
    try:
        labels = _label_set({row.emotion for _, row in rows if row.is_labelled}, named - {""})
    except ValueError as error:
        raise TableError(f"{path}: {error}") from None
    _add_features(path, [row for _, row in rows])
    dialogues = [Dialogue(key, [row for _, row in group]) for key, group in groupby(rows, key=lambda pair: pair[0])]
    seen: set[str] = set()
    for dialogue in dialogues:
        if dialogue.id in seen:
            raise TableError(
                f"{path}: dialogue {dialogue.id} is interrupted by another; a table is in conversation order"
            )
        seen.add(dialogue.id)
        if not any(row.is_labelled for row in dialogue.rows):
            raise TableError(f"{path}: dialogue {dialogue.id} has no utterance with an emotion; leave it out")
    return labels, dialogues


def _label_set(emotions: set[str], named: set[str]) -> LabelSet:
    """The label set of a table with these emotions and these names of label sets. Raises ValueError."""
    if not named:
        return label_set_of(emotions)
    if len(named) > 1 or not named <= LABEL_SETS.keys():
        raise ValueError(f"label_set {', '.join(sorted(named))}: one of {', '.join(sorted(LABEL_SETS))} for all rows")
    labels = LABEL_SETS[named.pop()]
    if strangers := emotions - set(labels.emotions):
        raise ValueError(f"emotions {', '.join(sorted(strangers))} do not belong to the label set {labels.name}")
    return labels


def _row(record: dict[str, str]) -> Row:
    """A row of the table from a record of the CSV. Raises ValueError."""
    if None in record or None in record.values():
        raise ValueError("the line has not as many fields as the header")
    is_context = not record["emotion"] and not record["sentiment"]
    if not is_context and record["sentiment"] not in SENTIMENTS:
        raise ValueError(f"sentiment {record['sentiment']!r} is none of {', '.join(SENTIMENTS)}")
    if not record["speaker"] or not (record["emotion"] or is_context):
        raise ValueError("an utterance needs an emotion and a speaker (context: neither emotion nor sentiment)")
    if (recognized := record.get("recognized") or "no") not in ("yes", "no"):
        raise ValueError(f"recognized {recognized!r} is neither yes nor no")
    values = np.array([_number(record, name) for name in COLUMNS], dtype=np.float32)
    start, end = (None if math.isnan(time) else time for time in (_number(record, "start"), _number(record, "end")))
    return Row(
        record["speaker"],
        record["text"],
        record["emotion"],
        record["sentiment"],
        prosody=values if np.isfinite(values).any() else None,
        start=start,
        end=end,
        recognized=recognized == "yes",
    )


def _number(record: dict[str, str], name: str) -> float:
    """The number in a field, NaN where it is empty. Raises ValueError."""
    try:
        number = float(record.get(name) or "nan")
    except ValueError:
        raise ValueError(f"{name}: {record[name]!r} is no number") from None
    if abs(number) > MAX_NUMBER:
        raise ValueError(f"{name}: {record[name]!r} is too large")
    return number


def _add_features(path: Path, rows: list[Row]) -> None:
    file = path.with_suffix(".safetensors")
    if not file.exists():
        return
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors raises its own kind, which is no public name
        raise TableError(f"{file}: not a safetensors file ({error})") from None
    for name, values in tensors.items():
        if values.ndim != 2 or len(values) != len(rows):
            raise TableError(f"{file}: {name} is {list(values.shape)}, not [{len(rows)}, width], a row an utterance")
        for row, features in zip(rows, values.astype(np.float32), strict=True):
            if np.isfinite(features).all():
                row.features[name] = features


def write_table(path: Path, split: str, dialogues: Sequence[Dialogue], labels: LabelSet | None = None) -> None:
    """Write a table that `read_table` reads, and the embeddings beside it if there are any.

    labels: named in the table, which gets `SESSION_COLUMNS`.
    """
    rows = [(dialogue.id, turn, row) for dialogue in dialogues for turn, row in enumerate(dialogue.rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*WRITTEN_COLUMNS, *(SESSION_COLUMNS if labels else ()), *COLUMNS))
        for key, turn, row in rows:
            known = row.prosody if row.prosody is not None else np.full(len(COLUMNS), np.nan)
            prosody = ["" if math.isnan(value) else f"{value:.4f}" for value in known]
            times = ["" if time is None else f"{time:.3f}" for time in (row.start, row.end)]
            known_too = ["yes" if row.recognized else "no", labels.name] if labels else []
            told = [split, key, turn, row.speaker, row.text, row.emotion, row.sentiment, *times]
            writer.writerow([*told, *known_too, *prosody])
    widths = {name: len(values) for _, _, row in rows for name, values in row.features.items()}
    if widths:
        tensors = {name: np.full((len(rows), width), np.nan, np.float32) for name, width in widths.items()}
        for number, (_, _, row) in enumerate(rows):
            for name, values in row.features.items():
                tensors[name][number] = values
        save_file(tensors, path.with_suffix(".safetensors"))
