"""Conversation tables as input of the network: embedded, normalised and in order, by the functions of the live path."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.tables import Dialogue
from model.encoders.prosody import ProsodyPrior
from model.encoders.text import ContextReader, Line, TextConfig, TextEncoder, Tuned
from model.fusion.config import FusionConfig
from model.fusion.dialogue import SpeakerMemory, UtteranceFeatures
from model.labels import SENTIMENTS, LabelSet
from model.progress import Progress

ENCODERS = "graphs"  # changed when the same weights give other embeddings
UNKNOWN = -1  # in place of a class: of an utterance that is context, or of a sentence without a sentiment


@dataclass
class Prepared:
    """A table as input of the network, with its labels."""

    conversations: list[list[UtteranceFeatures]]
    emotion: list[NDArray[np.int64]]
    """Class indices [utterances] of each conversation, `UNKNOWN` of context."""
    sentiment: list[NDArray[np.int64]]
    """Class indices [utterances] of each conversation, `UNKNOWN` of context."""
    target: list[NDArray[np.float32]] | None = None
    """[utterances, C] distributions over the classes of each conversation, to be learnt instead of `emotion`."""

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """[all utterances] bool: those with a label, of which there are n; the others are context."""
        known: NDArray[np.bool_] = np.concatenate(self.emotion) != UNKNOWN
        return known

    @property
    def dialogue(self) -> NDArray[np.int64]:
        """[n] int64: number of the dialogue of each utterance with a label."""
        return np.repeat(np.arange(len(self.conversations)), [len(one) for one in self.conversations])[self.labelled]

    @property
    def length(self) -> NDArray[np.float64]:
        """[dialogues] float64: number of utterances, context among them."""
        return np.array([len(one) for one in self.conversations], dtype=np.float64)

    @property
    def truth(self) -> NDArray[np.int64]:
        """[n] int64: emotion of each utterance with a label."""
        return np.concatenate(self.emotion)[self.labelled]


def cache_folder() -> Path:
    """Folder in which embeddings of tables are cached between runs (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "undertone"


def so_far(dialogues: Sequence[Dialogue], context: int) -> list[list[Line]]:
    """For each utterance of the dialogues, in order: up to `context` utterances before it, and itself."""
    lines = []
    for dialogue in dialogues:
        spoken = [Line(row.speaker, row.text, row.recognized) for row in dialogue.rows]
        lines += [spoken[max(0, t - context) : t + 1] for t in range(len(spoken))]
    return lines


def like_lengths(
    length: NDArray[np.float64], batch: int, rng: np.random.Generator | None = None
) -> list[NDArray[np.int64]]:
    """Group the positions 0 … n-1 in batches of similar length, which saves padding.

    length: [n]; rng: makes the grouping approximate and shuffles the batches. Returns arrays [up to `batch`] int64.
    """
    if rng is not None:
        length = length * (1 + 0.2 * rng.standard_normal(len(length)))
    order = np.argsort(length, kind="stable")
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    if rng is not None:
        rng.shuffle(batches)
    return batches


def encode_lines(
    lines: Sequence[Sequence[Line]],
    config: TextConfig,
    folder: Path | None,
    encoder_class: Callable[[TextConfig, Path], TextEncoder | ContextReader],
    progress: Progress,
) -> NDArray[np.float32]:
    """[len(lines), D] float32 output of the live encoder for each item, cached under a hash of all that determines
    it."""
    files = sorted(folder.glob("*.safetensors")) if folder else []
    weights = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key = hashlib.sha256(
        json.dumps([asdict(config), encoder_class.__name__, ENCODERS, weights, lines]).encode()
    ).hexdigest()[:32]
    file = cache_folder() / f"text-{key}.npy"
    if file.exists():
        stored: NDArray[np.float32] = np.load(file, allow_pickle=False)
        return stored
    encoder = encoder_class(config, folder)  # type: ignore[arg-type]  # a reader has a folder
    out: NDArray[np.float32] | None = None
    length = np.array([sum(len(line.words) for line in context) for context in lines], dtype=np.float64)
    batches = like_lengths(length, 64)
    for number, chosen in enumerate(batches):
        encoded = encoder([lines[i] for i in chosen])
        out = np.empty((len(lines), encoded.shape[1]), np.float32) if out is None else out
        out[chosen] = encoded
        progress.step("reading utterances, in batches of 64", number + 1, len(batches))
    assert out is not None
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, out)
    partial.replace(file)
    return out


def _classes(names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """[len(names)] int64 class indices; `UNKNOWN` for ""."""
    return np.array([classes.index(name) if name else UNKNOWN for name in names], dtype=np.int64)


def fit_prior(dialogues: Sequence[Dialogue]) -> ProsodyPrior | None:
    """Fit prosody statistics of the training speakers; None when the table has no prosody."""
    voices: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for dialogue in dialogues:
        for row in dialogue.rows:
            if row.prosody is not None:
                voices.setdefault((dialogue.id, row.speaker), []).append(row.prosody)
    return ProsodyPrior.fit(np.stack(rows) for rows in voices.values())


def prepare(
    dialogues: Sequence[Dialogue],
    labels: LabelSet,
    config: FusionConfig,
    tuned: Tuned,
    progress: Progress,
    experts: bool = True,
) -> Prepared:
    """Turn a table into the network's input, utterance by utterance, exactly as a live session does.

    Embeddings of the table (`Row.features`) replace those of the encoders. experts: add the posteriors of the expert
    "reader"; not for training data, which it has memorised, so that its posteriors would be overconfident.
    """
    has_text_features = any("text" in row.features for dialogue in dialogues for row in dialogue.rows)
    encode_text = "text" in config.modalities and not has_text_features
    lines = so_far(dialogues, config.text.context)
    embeddings: Iterator[NDArray[np.float32]] = iter(
        encode_lines(lines, config.text, tuned.adapter, TextEncoder, progress) if encode_text else []
    )
    with_reader = encode_text and experts and config.reader is not None and tuned.reader is not None
    posteriors: Iterator[NDArray[np.float32]] = iter([])
    if with_reader and config.reader is not None:
        past = so_far(dialogues, config.reader.context)
        posteriors = iter(encode_lines(past, config.reader, tuned.reader, ContextReader, progress))
    prepared = Prepared([], [], [])
    for dialogue in dialogues:
        memory = SpeakerMemory(config.prosody, config.window)
        conversation = []
        for row in dialogue.rows:
            features = {name: values for name, values in row.features.items() if name in config.modalities}
            embedding, posterior = next(embeddings, None), next(posteriors, None)
            if embedding is not None and row.text.strip():
                features["text"] = embedding
            expert_posteriors = {"reader": posterior} if posterior is not None and row.text.strip() else {}
            conversation.append(memory.add(row.speaker, features, row.prosody, expert_posteriors))
        prepared.conversations.append(conversation)
        prepared.emotion.append(_classes([row.emotion for row in dialogue.rows], labels.emotions))
        prepared.sentiment.append(_classes([row.sentiment for row in dialogue.rows], SENTIMENTS))
    return prepared
