"""Readers of published corpora in their released layouts: MELD, EmoryNLP, IEMOCAP."""

from __future__ import annotations

import csv
import io
import re
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from model.data.tables import Dialogue, Row, TableError
from model.labels import SENTIMENT

SPLITS = ("train", "dev", "test")
IEMOCAP_EMOTIONS = {
    "neu": "neutral", "fru": "frustrated", "ang": "angry", "sad": "sad", "exc": "excited", "hap": "happy",
}  # fmt: skip
IEMOCAP_LINE = re.compile(r"\[(\d+\.?\d*) - (\d+\.?\d*)\]\t(\w+_([FM])\d+)\t(\w+)")


@dataclass
class Corpus:
    """A release by split. `clips` has the media file of each utterance in order, None where there is none."""

    splits: dict[str, list[Dialogue]]
    clips: dict[str, list[Path | None]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of skipped utterances by their label, which is none of the classes."""


def _read_csv(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, record) of a CSV in UTF-8 or, in some releases, Windows-1252. Raises TableError."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise TableError(f"{file}: no such file; is this the folder of the release?") from None
    except OSError as error:
        raise TableError(f"{file}: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise TableError(f"{file}: no column {', '.join(missing)}")
        for record in reader:
            if any(record[name] is None for name in columns):
                raise TableError(f"{file}:{reader.line_num}: the line has not as many fields as the header")
            yield reader.line_num, record
    except csv.Error as error:
        raise TableError(f"{file}:{reader.line_num}: not a CSV line ({error})") from None


def _repair(text: str) -> str:
    """Repair Windows-1252 punctuation that was decoded as Latin-1, and collapse white space."""
    mended = "".join(bytes([ord(c)]).decode("cp1252", errors="ignore") if 0x80 <= ord(c) <= 0x9F else c for c in text)
    return " ".join(mended.replace("’", "'").replace("‘", "'").split())


def _seconds(time: str) -> float:
    """Seconds from `HH:MM:SS,mmm`. Raises ValueError."""
    hours, minutes, seconds = time.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def read_meld(folder: Path) -> Corpus:
    """MELD's CSVs (Poria et al. 2019), with the clips of MELD.Raw if they are in the same folder. Raises TableError."""
    files = dict(zip(SPLITS, ("train_sent_emo.csv", "dev_sent_emo.csv", "test_sent_emo.csv"), strict=True))
    clips = dict(zip(SPLITS, ("train_splits", "dev_splits_complete", "output_repeated_splits_test"), strict=True))
    corpus = Corpus({})
    for split, name in files.items():
        rows, media = [], []
        columns = (
            "Utterance",
            "Speaker",
            "Emotion",
            "Sentiment",
            "Dialogue_ID",
            "Utterance_ID",
            "StartTime",
            "EndTime",
        )
        for line, record in _read_csv(_find(folder, name), columns):
            try:
                times = _seconds(record["StartTime"]), _seconds(record["EndTime"])
            except ValueError:
                raise TableError(f"{name}:{line}: times like 00:16:16,059 are wanted") from None
            emotion, sentiment = record["Emotion"].lower(), record["Sentiment"].lower()
            row = Row(_repair(record["Speaker"]), _repair(record["Utterance"]), emotion, sentiment, None, *times)
            rows.append((record["Dialogue_ID"], row))
            clip = f"dia{record['Dialogue_ID']}_utt{record['Utterance_ID']}.mp4"
            media.append(_clip(folder / clips[split] / clip))
        corpus.splits[split], corpus.clips[split] = _dialogues(rows), media
    return corpus


def _clip(path: Path) -> Path | None:
    """The path of a clip if the file exists."""
    try:
        return path if path.exists() else None
    except OSError:  # an invalid file name
        return None


def _find(folder: Path, name: str) -> Path:
    """Path of a file in the release's folder or below (MELD.Raw has train's CSV beside its clips)."""
    return next(iter(sorted(folder.glob(f"**/{name}"))), folder / name)


def _dialogues(rows: list[tuple[str, Row]]) -> list[Dialogue]:
    return [Dialogue(key, [row for _, row in group]) for key, group in groupby(rows, key=lambda pair: pair[0])]


def read_emorynlp(folder: Path) -> Corpus:
    """EmoryNLP's CSVs (Zahiri & Choi 2018) in the layout of MELD's repository. Raises TableError."""
    corpus = Corpus({})
    for split in SPLITS:
        name = f"emorynlp_{split}_final.csv"
        rows = []
        columns = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Season", "Episode")
        for line, record in _read_csv(_find(folder, name), columns):
            try:
                speakers = literal_eval(record["Speaker"])
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                speakers = None
            if not isinstance(speakers, list) or not all(isinstance(speaker, str) for speaker in speakers):
                raise TableError(f"{name}:{line}: speakers like ['Rachel Green'] are wanted")
            emotion = record["Emotion"].lower()
            sentiment = SENTIMENT["emorynlp"].get(emotion, "negative")
            key = f"{record['Season']}_{record['Episode']}_{record['Scene_ID']}"
            rows.append(
                (key, Row(" and ".join(speakers) or "nobody", _repair(record["Utterance"]), emotion, sentiment, None))
            )
        corpus.splits[split] = _dialogues(rows)
    return corpus


def read_iemocap(folder: Path) -> Corpus:
    """An IEMOCAP release (Busso et al. 2008), six classes. Raises TableError.

    Session 5 is the test set, as usual; dev is every tenth dialogue of the other sessions in alphabetical order (COSMIC
    uses a list of twelve other dialogues).
    """
    evaluations = sorted(folder.glob("Session[1-5]/dialog/EmoEvaluation/Ses*.txt"))
    if not evaluations:
        raise TableError(f"{folder}: no Session*/dialog/EmoEvaluation/*.txt; is this IEMOCAP_full_release?")
    corpus = Corpus({split: [] for split in SPLITS}, {split: [] for split in SPLITS})
    earlier = 0
    for file in evaluations:
        session = file.parts[-4]
        split = "test" if session == "Session5" else "dev" if earlier % 10 == 9 else "train"
        earlier += session != "Session5"
        transcript = _iemocap_words(folder / session / "dialog" / "transcriptions" / file.name)
        entries: list[tuple[float, Row, Path | None]] = []
        for line in re.findall(r"^\[.*", _latin(file), re.MULTILINE):
            found = IEMOCAP_LINE.match(line)
            if found is None:
                raise TableError(f"{file}: not a line of an evaluation: {line!r}")
            start, end, key, speaker, label = found.groups()
            emotion = IEMOCAP_EMOTIONS.get(label)
            if emotion is None:
                corpus.left_out[label] = corpus.left_out.get(label, 0) + 1
                continue
            sentiment = SENTIMENT["iemocap"].get(emotion, "negative")
            row = Row(speaker, transcript.get(key, ""), emotion, sentiment, None, float(start), float(end))
            clip = _clip(folder / session / "sentences" / "wav" / file.stem / f"{key}.wav")
            entries.append((float(start), row, clip))
        if entries:
            entries.sort(key=lambda entry: entry[0])
            corpus.splits[split].append(Dialogue(file.stem, [row for _, row, _ in entries]))
            corpus.clips[split] += [clip for _, _, clip in entries]
    return corpus


def _iemocap_words(file: Path) -> dict[str, str]:
    lines = re.findall(r"^(Ses\S+) \[[^]]*\]: (.*)$", _latin(file), re.MULTILINE)
    return {key: _repair(words) for key, words in lines}


def _latin(file: Path) -> str:
    try:
        return file.read_text(encoding="latin-1")
    except OSError as error:
        raise TableError(f"{file}: {error.strerror}") from None
