"""`undertone prepare`: tables of a published corpus, with prosody by the functions of the live path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.data.corpora import Corpus, read_emorynlp, read_iemocap, read_meld
from model.data.feature_pickles import read_features
from model.data.tables import Dialogue, TableError, write_table
from model.encoders import prosody
from model.encoders.transcription import RATE
from model.progress import Progress

Measured = tuple[list[float] | str, float | None]
"""Columns of prosody, or the reason for none; seconds that the clip lasts, None where it cannot be read."""
READERS: dict[str, Callable[[Path], Corpus]] = {
    "meld": read_meld,
    "emorynlp": read_emorynlp,
    "iemocap": read_iemocap,
    "features": read_features,
}
MAX_CLIP_S = 60.0  # of a clip that is decoded; the longest utterance of MELD has 41 s
LONGER, LONGER_S = 1.5, 2.0
"""A clip is longer than its row's times by no more than this factor and these seconds: it is cut at key frames."""
SHORTER = 0.2  # share of its row's times that a clip has at least
CLIPS_PER_TASK = 16  # of Ray
MAX_TASKS = 8  # that run at the same time


def prepare_command(
    corpus: str, source: Path, out: Path, progress: Progress, ray_address: str | None = None
) -> dict[str, Any]:
    """Write out/train.csv, dev.csv, test.csv and the report, which is also returned, as out/prepare.json.

    Measured clips are recorded in out/.prepare.jsonl, from which an interrupted run continues. Raises TableError and
    ClusterError.
    """
    if corpus not in READERS:
        raise TableError(f"no corpus {corpus!r}; there are {', '.join(READERS)}")
    release = READERS[corpus](source)
    out.mkdir(parents=True, exist_ok=True)
    clips = sorted({clip for media in release.clips.values() for clip in media if clip is not None})
    measured: dict[str, Measured] = {}
    if clips and prosody.available():
        measured = _measure_all(clips, out / ".prepare.jsonl", progress, ray_address)
    elif clips:
        progress.tell("prosody is left out: pip install praat-parselmouth")
    mistaken = _refuse_other_lengths(release, measured)
    broken = {clip: outcome for clip, (outcome, _) in measured.items() if isinstance(outcome, str)}
    counts = {}
    for split, dialogues in release.splits.items():
        media = iter(release.clips.get(split, []))
        write_table(out / f"{split}.csv", split, [_with_prosody(d, media, measured) for d in dialogues])
        counts[split] = sum(len(dialogue.rows) for dialogue in dialogues)
    without = sum(clip is None for media in release.clips.values() for clip in media)
    report = {
        "utterances": counts,
        "prosody": len(measured) - len(broken),
        "without_clip": without,
        "broken_clips": broken,
        "clips_of_another_length": mistaken,
        "left_out": release.left_out,
    }
    (out / "prepare.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    progress.tell(
        f"{out}: {', '.join(f'{n} {split}' for split, n in counts.items())} utterances, {report['prosody']} with "
        f"prosody, {without} without a clip, {len(broken)} with a broken one, "
        f"of which {len(mistaken)} last longer or shorter than the table says (another clip than the row's)"
        + "".join(f"; {n} labelled {label} left out" for label, n in release.left_out.items())
    )
    return report


def _with_prosody(dialogue: Dialogue, media: Iterator[Path | None], measured: dict[str, Measured]) -> Dialogue:
    rows = []
    for row in dialogue.rows:
        values, _ = measured.get(str(next(media, None)), (None, None))
        rows.append(replace(row, prosody=np.array(values, np.float32)) if isinstance(values, list) else row)
    return replace(dialogue, rows=rows)


def _refuse_other_lengths(release: Corpus, measured: dict[str, Measured]) -> dict[str, str]:
    """Take from `measured` what clips gave that last another time than their rows: the release's known mix-ups.

    Returns the reason by clip.
    """
    mistaken = {}
    for split, dialogues in release.splits.items():
        media = iter(release.clips.get(split, []))
        for row in (row for dialogue in dialogues for row in dialogue.rows):
            clip = str(next(media, None))
            _, length = measured.get(clip, (None, None))
            if length is None or row.start is None or row.end is None or row.end <= row.start:
                continue
            wanted = row.end - row.start
            if not SHORTER * wanted <= length <= LONGER * wanted + LONGER_S:
                more = " or more" if length >= MAX_CLIP_S else ""
                mistaken[clip] = f"lasts {length:.1f} s{more}, where the table has {wanted:.1f} s"
                measured[clip] = mistaken[clip], length
    return mistaken


def measure_clip(clip: Path) -> Measured:
    """The seven columns of `model.encoders.prosody` for a clip, or the reason for none, and its length.

    It is decoded as in the live path, `MAX_CLIP_S` of it at most.
    """
    from stream.errors import MediaError
    from stream.sources.file import FileSource

    blocks, length = [], 0.0
    try:
        for block in FileSource(clip, "mix"):
            blocks.append(block.samples[0])
            length += len(block.samples[0]) / RATE
            if length >= MAX_CLIP_S:
                return f"longer than {MAX_CLIP_S:.0f} s", length
    except MediaError as error:
        return str(error), None
    values = prosody.measure(np.concatenate(blocks)) if blocks else None
    return "too short or silent" if values is None else [float(value) for value in values], length


def _measure_all(clips: list[Path], cache: Path, progress: Progress, ray_address: str | None) -> dict[str, Measured]:
    measured = dict(_read_measured(cache))
    missing = [clip for clip in clips if str(clip) not in measured]
    if not missing:
        return measured
    import ray

    from workers.cluster.actors import ray_cluster

    with ray_cluster(ray_address), cache.open("a", encoding="utf-8") as file:
        task = ray.remote(num_cpus=1, max_retries=2)(lambda some: [(str(clip), *measure_clip(clip)) for clip in some])
        file.write("\n")  # the last line may have been cut off
        waiting = [missing[start : start + CLIPS_PER_TASK] for start in range(0, len(missing), CLIPS_PER_TASK)]
        running: list[Any] = []
        done = 0
        while waiting or running:
            while waiting and len(running) < MAX_TASKS:
                running.append(task.remote(waiting.pop(0)))
            (first,), running = ray.wait(running)
            for clip, outcome, length in ray.get(first):
                measured[clip] = outcome, length
                file.write(json.dumps([clip, outcome, length]) + "\n")
                done += 1
            file.flush()
            progress.step("measuring prosody", done, len(missing))
    return measured


def _read_measured(file: Path) -> Iterable[tuple[str, Measured]]:
    """(clip, what it gave) of an earlier run; its last line may be incomplete, and an older version knew no lengths."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            clip, outcome, length = json.loads(line)
        except ValueError:
            continue
        yield clip, (outcome, length)
