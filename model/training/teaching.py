"""Distillation: what larger models say of utterances is learnt (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import with_config

from model.data.tables import Dialogue
from model.encoders.text import ContextReader, Line
from model.fusion.checkpoint import CheckpointError, load_config, networks_of, resolve, tuned_of
from model.fusion.config import FusionConfig
from model.labels import LabelSet
from model.progress import Progress
from model.training.examples import Examples, labelled_so_far
from model.training.prepared import UNKNOWN, encode_lines, prepare
from model.training.train import predict


@with_config(extra="forbid")
@dataclass(frozen=True)
class Teaching:
    """Hyperparameters of the distillation."""

    checkpoints: tuple[str, ...] = ()
    """Names of shipped checkpoints, or folders, with the emotions of the table. Those of all their seeds teach
    together, by the mean of their posteriors."""
    share: float = 0.7
    """Weight of the teachers' posterior in the target of an utterance; the rest is its label."""
    sentences: int = 10_000
    """Sentences of GoEmotions in each epoch, drawn anew, with the teachers' posterior alone; 0: none."""
    who: Literal["readers", "networks"] = "readers"
    """Part of the teachers that teaches: the reader, or the network, which knows the conversation better and says
    nothing of single sentences (`sentences` must be 0)."""
    configuration: str | None = None
    """Instead of checkpoints: a training configuration, which is trained first, on the same data."""

    def __post_init__(self) -> None:
        if bool(self.checkpoints) == (self.configuration is not None):
            raise ValueError("name either checkpoints or a configuration")

    def __str__(self) -> str:
        return f"the {self.who} of {self.configuration or ', '.join(self.checkpoints)}"


@dataclass(frozen=True)
class Lessons:
    """The teachers' posteriors of a table and of the sentences of GoEmotions."""

    share: float
    posterior: NDArray[np.float32]
    """[n, C] float32, of the table's utterances that have a label, in order."""
    sentences: Examples
    """All of GoEmotions that there is to draw from, with the teachers' posteriors as targets."""
    number: int
    """Sentences in an epoch."""

    def added_to(self, table: Examples, seed: int) -> Examples:
        """One epoch of the table with the teachers' targets, and of sentences drawn with the seed."""
        rng = np.random.default_rng(seed)
        drawn = rng.choice(len(self.sentences.lines), min(self.number, len(self.sentences.lines)), replace=False)
        target = (1 - self.share) * table.target + self.share * self.posterior
        assert table.sentiment is not None
        return Examples(
            [*table.lines, *(self.sentences.lines[n] for n in drawn)],
            np.concatenate([target, self.sentences.target[drawn]]),
            np.concatenate([table.sentiment, np.full(len(drawn), UNKNOWN)]),
        )


def ask(
    checkpoints: Sequence[str], emotions: Sequence[str] | None, lines: Sequence[Sequence[Line]], progress: Progress
) -> NDArray[np.float32]:
    """[n, C] float32 mean posterior of the readers of all seeds for n sentences, on a CPU and once for the same ones.

    emotions: those that a teacher must have; None: whichever the first has. Raises CheckpointError for a teacher
    without a reader, or with other emotions.
    """
    said: list[NDArray[np.float32]] = []
    for name in checkpoints:
        config = _teacher(name, emotions)
        emotions = config.emotions
        said += _readers_say(name, config, lambda _: lines, progress)
    mean: NDArray[np.float32] = np.mean(said, 0)
    return mean


def teach(
    teaching: Teaching,
    labels: LabelSet,
    training: Sequence[Dialogue],
    sentences: Sequence[Sequence[Line]],
    progress: Progress,
) -> Lessons:
    """Ask the teachers: on one core an hour for MELD and GoEmotions, for each reader that is an MPNet.

    training: the table as it is, without noise; sentences: of GoEmotions. Raises CheckpointError.
    """
    said: list[NDArray[np.float32]] = []
    for name in teaching.checkpoints:
        config = _teacher(name, labels.emotions)
        if teaching.who == "networks":
            said += _networks_say(name, labels, training, progress)
        else:
            said += _readers_say(name, config, lambda context: labelled_so_far(training, context), progress)
    if teaching.sentences == 0 or not sentences:
        drawn_from = Examples([], np.zeros((0, len(labels.emotions)), np.float32))
    else:
        drawn_from = Examples(sentences, ask(teaching.checkpoints, labels.emotions, sentences, progress))
    return Lessons(teaching.share, np.mean(said, 0), drawn_from, teaching.sentences)


def _teacher(name: str, emotions: Sequence[str] | None) -> FusionConfig:
    """The configuration of a checkpoint that shall teach these emotions (None: its own). Raises CheckpointError."""
    config = load_config(name)
    if emotions is not None and config.emotions != tuple(emotions):
        raise CheckpointError(
            f"checkpoint {name!r} cannot teach here: its emotions are {', '.join(config.emotions)}, "
            f"not {', '.join(emotions)}"
        )
    return config


def _readers_say(
    name: str, config: FusionConfig, lines_in: Callable[[int], Sequence[Sequence[Line]]], progress: Progress
) -> list[NDArray[np.float32]]:
    """[n, C] float32 of each seed's reader. lines_in: n utterances, each with up to so many before it. Raises
    CheckpointError."""
    folder = resolve(name)
    if config.reader is None or not (folder / "reader").is_dir():
        raise CheckpointError(f"checkpoint {name!r} has no reader that could teach")
    readers = (folder / "reader", *sorted((folder / "seeds").glob("reader-*")))
    lines = lines_in(config.reader.context)
    return [encode_lines(lines, config.reader, each, ContextReader, progress) for each in readers]


def _networks_say(
    name: str, labels: LabelSet, training: Sequence[Dialogue], progress: Progress
) -> list[NDArray[np.float32]]:
    """[n, C] float32 of each seed's network, of the utterances with a label in order. Raises CheckpointError."""
    networks = networks_of(name)
    data = prepare(training, labels, networks[0].config, tuned_of(name), progress)
    return [predict(network, data).astype(np.float32) for network in networks]
