"""Effect on labels of names that are found by voice instead of the true ones: a simulation.

No recording here has conversational emotions and one microphone. So the turns of a table are read out by LibriSpeech's
voices (other words, about as long), diarization says who each turn is, and the table is labelled with these names.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.data.tables import Dialogue, read_table, write_table
from model.encoders.speaker import SpeakerEncoder
from model.encoders.speaker_activity import SpeakerActivityNet
from model.evaluation.evaluation import evaluate
from model.progress import Progress
from stream.speech.overlap_segmenter import OverlapSegmenter
from stream.speech.turns import MOST_PEOPLE, Turn
from workers.bench.accuracy.conditions import Voices, more_people
from workers.bench.accuracy.constructed import read_out, voices_of
from workers.bench.accuracy.speakers import diarize
from workers.console.tables import Rows

WORDS_PER_S = 2.8
LONGEST_S = 12.0


def bench_wrong_names(data: Path, progress: Progress) -> Rows:
    """A row for each way to know who speaks: the turns with a wrong name after the best matching of names, and scores
    of the shipped MELD checkpoint (mean of its seeds) on MELD dev with these names, in percent.

    data: folder with `meld` and `librispeech`. Raises MediaError, TableError.
    """
    _, dialogues = read_table(data / "meld" / "dev.csv")
    voices = more_people(voices_of(data / "librispeech"))
    found: dict[str, list[Dialogue]] = {"told apart": [], "told apart, number known (--people)": []}
    network, encoder = SpeakerActivityNet(), SpeakerEncoder()
    for n, dialogue in enumerate(dialogues):
        progress.step("dialogues read out", n, len(dialogues))
        spoken, true_turns = _read_out(dialogue, voices, n)
        count = len({row.speaker for row in dialogue.rows})
        for way, people in zip(found, ((1, MOST_PEOPLE), (count, count)), strict=True):
            turns = asyncio.run(diarize(spoken, OverlapSegmenter(network), encoder, people))
            names = [_speaker_of(turn, turns) for turn in true_turns]
            rows = [replace(row, speaker=name) for row, name in zip(dialogue.rows, names, strict=True)]
            found[way].append(replace(dialogue, rows=rows))
    ways = {"given": list(dialogues)} | found
    rows_out: Rows = []
    for way, those in ways.items():
        progress.tell(f"labels with speakers {way}")
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "dev.csv"
            write_table(table, "dev", those)
            report = evaluate("meld", table, progress)
        pairs = list(zip(dialogues, those, strict=True))
        counts = [len({row.speaker for row in dialogue.rows}) for dialogue in those]
        rows_out.append(
            {
                "speakers": way,
                "dialogues": len(dialogues),
                "turns": sum(len(dialogue.rows) for dialogue in dialogues),
                "wrong_name": round(100 * _wrong(pairs), 1),
                "speakers_a_dialogue": round(float(np.mean(counts)), 1),
                "accuracy": report["over_seeds"]["accuracy"]["mean"],
                "weighted_f1": report["over_seeds"]["weighted_f1"]["mean"],
            }
        )
    return rows_out


def _read_out(dialogue: Dialogue, voices: Voices, seed: int) -> tuple[np.ndarray, list[Turn]]:
    """Sound [n] float32 at 16 kHz of a dialogue in others' voices and words, and its turns."""
    names = list(dict.fromkeys(row.speaker for row in dialogue.rows))
    chosen = np.random.default_rng(seed).permutation(sorted(voices))
    cast = {name: str(chosen[n % len(chosen)]) for n, name in enumerate(names)}
    lines = [(cast[row.speaker], min(LONGEST_S, len(row.text.split()) / WORDS_PER_S)) for row in dialogue.rows]
    made = read_out(voices, lines, seed)
    return made.samples, made.turns


def _speaker_of(turn: Turn, found: Sequence[Turn]) -> str:
    """The speaker found in most of a turn; where none is, that of the nearest turn."""
    overlap: dict[str, float] = {}
    for other in found:
        shared = min(turn.end, other.end) - max(turn.start, other.start)
        overlap[other.speaker] = overlap.get(other.speaker, 0.0) + max(0.0, shared)
    if any(overlap.values()):
        return max(overlap, key=lambda name: overlap[name])
    nearest = min(found, key=lambda other: max(other.start - turn.end, turn.start - other.end), default=None)
    return "speaker 1" if nearest is None else nearest.speaker


def _wrong(pairs: Sequence[tuple[Dialogue, Dialogue]]) -> float:
    """Share of turns, 0 … 1, whose name is wrong when the names found are matched with the true ones, one to one, as
    well as can be."""
    from scipy.optimize import linear_sum_assignment

    right = total = 0
    for true, found in pairs:
        names = [sorted({row.speaker for row in dialogue.rows}) for dialogue in (true, found)]
        together = np.zeros((len(names[0]), len(names[1])), int)
        for one, other in zip(true.rows, found.rows, strict=True):
            together[names[0].index(one.speaker), names[1].index(other.speaker)] += 1
        right += int(together[linear_sum_assignment(together, maximize=True)].sum())
        total += len(true.rows)
    return 1 - right / total
