"""Conversation tables and the embeddings beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from model.data.tables import Dialogue, Row, TableError, read_table, write_table
from model.encoders.prosody import COLUMNS
from model.labels import LABEL_SETS
from tests.fuzz.mutations import WORDS, mutated
from tests.fuzz.target import Target, Wrong

ROWS = [
    Row("Ann", "Hello, who is it?", "joy", "positive", np.arange(7, dtype=np.float32), 0.0, 1.5),
    Row("Ben", "It is me.", "neutral", "neutral", None, features={"text": np.ones(3, np.float32)}),
    Row("Ann", "Who?", "", "", None, 2.0, 2.5, recognized=True),
]


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    table, beside = folder / "table.csv", folder / "table.safetensors"
    write_table(table, "train", [Dialogue("0", ROWS), Dialogue("1", ROWS[:1])], LABEL_SETS["meld"])
    seeds, embeddings = table.read_bytes(), beside.read_bytes()

    def take(given: tuple[bytes, bytes]) -> None:
        table.write_bytes(given[0])
        beside.write_bytes(given[1])
        labels, dialogues = read_table(table)
        for row in (row for dialogue in dialogues for row in dialogue.rows):
            told = row.emotion in labels.emotions if row.is_labelled else row.sentiment == ""
            if not told or any(time is not None and not np.isfinite(time) for time in (row.start, row.end)):
                raise Wrong(f"a row that nothing can be trained on: {row}")
            if row.prosody is not None and (row.prosody.shape != (len(COLUMNS),) or np.isinf(row.prosody).any()):
                raise Wrong(f"prosody that is neither known nor unknown: {row.prosody}")

    words = (*WORDS, b"joy", b"anger", b"dialogue_id", b",,,,", b"\r\n")
    tables = st.tuples(mutated([seeds], words), st.just(embeddings))
    yield Target(tables | st.tuples(st.just(seeds), mutated([embeddings], WORDS)), take, refusals=(TableError,))
