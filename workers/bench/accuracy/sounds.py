"""`undertone bench sounds`: laughter, crying and sighs that are heard in speech without any."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from model.encoders.sounds import CLASSES, SoundDetector
from model.encoders.transcription import RATE
from model.encoders.voice_observation import SoundName
from model.labels import RAVDESS
from model.progress import Progress
from stream.errors import MediaError
from stream.sources.file import read_audio
from workers.bench.accuracy.data import AUDIO
from workers.console.tables import Rows

FOLDERS = ("librispeech", "conversations", "ravdess")


def bench_sounds(data: Path, progress: Progress) -> Rows:
    """A row for each group of recordings below librispeech, conversations and ravdess, acted clips by emotion: minutes,
    sounds an hour, highest score of each, milliseconds of CPU time a second of sound. Raises MediaError."""
    groups = defaultdict(list)
    for file in _recordings(data):
        groups[_group(file)].append(file)
    if not groups:
        raise MediaError(f"{data}: no audio file in {', '.join(FOLDERS)}")
    detector, rows = SoundDetector(), []
    for done, (name, files) in enumerate(groups.items(), 1):
        rows.append(_row(name, files, detector))
        progress.step("sounds", done, len(groups))
    return rows


def _recordings(data: Path) -> list[Path]:
    folders = [data / name for name in FOLDERS]
    return [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix.lower() in AUDIO]


def _group(file: Path) -> str:
    parts = file.stem.split("-")
    if len(parts) == 7 and parts[2].isdigit() and 1 <= int(parts[2]) <= len(RAVDESS):
        return f"acted, {RAVDESS[int(parts[2]) - 1]}"
    return file.parent.name


def _row(name: str, files: list[Path], detector: SoundDetector) -> dict[str, Any]:
    counts, highest = dict.fromkeys(CLASSES, 0), dict.fromkeys(CLASSES, 0.0)
    seconds = cost = 0.0
    for file in files:
        samples = read_audio(file)[0]
        started = time.process_time()
        found = detector(samples)
        cost += time.process_time() - started
        seconds += len(samples) / RATE
        scores = detector.scores(samples)[1]
        for sound in get_args(SoundName):
            counts[sound] += sum(each.name == sound for each in found)
            highest[sound] = max(highest[sound], float(np.max(scores[:, CLASSES[sound]])))
    row: dict[str, Any] = {"recordings": name, "n": len(files), "minutes": round(seconds / 60, 1)}
    for sound, count in counts.items():
        row |= {f"{sound}_an_hour": round(3600 * count / seconds, 1), f"{sound}_highest": round(highest[sound], 2)}
    return row | {"ms_a_second": round(1000 * cost / seconds, 1)}
