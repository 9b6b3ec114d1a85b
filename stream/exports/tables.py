"""CSV and Parquet tables with one row per utterance."""

from __future__ import annotations

import csv as writing
import io
from collections.abc import Sequence
from typing import Any

from stream.events import Event
from stream.exports.labelled import Labelled, emotions, labelled, opening, removed
from stream.exports.text import plain, sounds

# A spreadsheet runs a text that begins with one of these as a formula; the last four are the full-width forms.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def csv(events: Sequence[Event]) -> bytes:
    """CSV (RFC 4180), UTF-8, with a header. Unknown values are empty; line breaks in words become blanks.

    A text that begins like a spreadsheet formula (= + - @) is prefixed with an apostrophe.
    """
    rows = _rows(events)
    file = io.StringIO()
    table = writing.writer(file)
    table.writerow([plain(name) for name in rows[0]])
    table.writerows([_cell(value) for value in row.values()] for row in rows)
    return file.getvalue().encode()


def parquet(events: Sequence[Event]) -> bytes:
    """Parquet with unchanged words and names; the metadata contains `session.started` as JSON, and what is missing."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    text, number, names = pa.string(), pa.float64(), pa.list_(pa.string())
    columns = {"session": text, "utterance": pa.int64(), "speaker": text, "start": number, "end": number, "text": text}
    columns |= {"emotion": text, "sentiment": text, "probability": number, "uncertain": pa.bool_(), "final": pa.bool_()}
    columns |= {f"p_{name}": number for name in emotions(events)}
    columns |= {"used": names, "missing": names, "failed": text, "arousal": number, "sounds": names}
    begun, gap = opening(events), removed(events)
    metadata = {"undertone": begun and begun.wire(), "undertone.missing": gap}
    schema = pa.schema(list(columns.items()), metadata={name: text for name, text in metadata.items() if text})
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_rows(events), schema), file)
    return file.getvalue()


def _rows(events: Sequence[Event]) -> list[dict[str, Any]]:
    session, names = events[0].session, emotions(events)
    return [_row(session, utterance, names) for utterance in labelled(events)]


def _row(session: str, utterance: Labelled, names: Sequence[str]) -> dict[str, Any]:
    label = utterance.label
    probabilities, voice = (label.probabilities, label.voice) if label else ({}, None)
    return {
        "session": session,
        "utterance": utterance.utterance,
        "speaker": utterance.speaker,
        "start": utterance.start,
        "end": utterance.end,
        "text": utterance.text,
        "emotion": label.emotion if label else None,
        "sentiment": label.sentiment if label else None,
        "probability": probabilities.get(label.emotion) if label else None,
        "uncertain": label.uncertain if label else None,
        "final": label.final if label else None,
        **{f"p_{name}": probabilities.get(name) for name in names},
        "used": label.modalities.used if label else None,
        "missing": label.modalities.missing if label else None,
        "failed": utterance.failed,
        "arousal": voice.arousal if voice else None,
        "sounds": sounds(label) if label and voice else None,
    }


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        value = " ".join(value)
    if not isinstance(value, str):
        return value
    value = plain(value)
    return "'" + value if value.startswith(_FORMULA) else value
