"""`undertone models list`: the models that can be fetched, where they are, and how fast they are on this machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from model.encoders.asr import PREFIX, SIZES, AsrError, AsrModel, locate
from model.encoders.manifest import find, manifest
from model.encoders.packaged import whole
from model.encoders.transcription import RATE
from stream.errors import one_line

UTTERANCE_S = 3.0  # seconds of the utterance that recognizers are timed with


@dataclass(frozen=True)
class Listed:
    """One model."""

    name: str
    use: str
    licence: str
    bytes: int
    languages: str
    """Spoken ones that a recognizer knows; "" for other models."""
    speed: float | None
    """Times real time of a recognizer on a short utterance; None: not measured."""
    folder: str
    """Folder of a model that is here, else ""."""
    origin: str = ""
    """Source of the files of a recognizer that is here, or the fault of one that is broken."""


def listed(speed: bool) -> list[Listed]:
    """All models. speed: time the recognizers that are here, which takes a few seconds each."""
    rows = [
        Listed(model.name, model.use, model.licence, model.size, "", None, str(find(model) or whole(model) or ""))
        for model in manifest().values()
        if not model.name.startswith(PREFIX)
    ]
    for size, megabytes in SIZES.items():
        found, fault = None, ""
        try:
            found = locate(size)
        except AsrError as error:
            fault = f"broken: {one_line(str(error))}"
        languages = "English" if size.endswith(".en") else "100" if size in ("turbo", "large-v3") else "99"
        fast = times_real_time(found) if speed and found is not None else None
        folder, origin = (found.folder, found.origin) if found is not None else ("", fault)
        rows.append(Listed(PREFIX + size, "speech to words", "MIT", megabytes * 10**6, languages, fast, folder, origin))
    return rows


def times_real_time(model: AsrModel) -> float:
    """Length of a short utterance by the time that a recognizer takes for it here, the median of three."""
    from model.encoders.whisper import Whisper

    recognize, taken = Whisper(model.folder), []
    samples = np.random.default_rng(0).normal(0, 0.05, round(UTTERANCE_S * RATE)).astype(np.float32)
    for _ in range(4):
        started = time.perf_counter()
        recognize([samples], "en")
        taken.append(time.perf_counter() - started)
    return round(UTTERANCE_S / statistics.median(taken[1:]), 1)


def models_table(rows: list[Listed]) -> Table:
    """The models, for a person."""
    table = Table(box=None, header_style="bold")
    for column in ("model", "MB", "languages", "x real time", "here", "use", "licence"):
        table.add_column(column)
    for row in rows:
        speed = "" if row.speed is None else f"{row.speed:g}"
        here = ": ".join(dict.fromkeys(part for part in (row.origin, row.folder) if part)) or "[yellow]no[/]"
        table.add_row(row.name, f"{row.bytes / 1e6:.3g}", row.languages, speed, here, row.use, row.licence)
    return table
