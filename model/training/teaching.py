"""Distillation: what larger readers say of utterances is learnt (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, with_config

from model.data.tables import Dialogue
from model.encoders.text import ContextReader, Line
from model.fusion.checkpoint import CheckpointError, load_config, resolve
from model.labels import LabelSet
from model.progress import Progress
from model.training.examples import UNKNOWN, Examples
from model.training.prepared import encode_lines, so_far


@with_config(extra="forbid")
@dataclass(frozen=True)
class Teaching:
    """Hyperparameters of the distillation."""

    checkpoints: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of shipped checkpoints, or folders: the readers of all their seeds teach by the mean of their posteriors.
    Their emotions must be those of the table."""
    share: float = 0.7
    """Weight of the teachers' posterior in the target of an utterance; the rest is its label."""
    sentences: int = 10_000
    """Sentences of GoEmotions in each epoch, drawn anew, with the teachers' posterior alone; 0: none."""


@dataclass(frozen=True)
class Lessons:
    """The teachers' posteriors of a table and of the sentences of GoEmotions."""

    share: float
    posterior: NDArray[np.float32]
    """[n, C] float32, of the table's utterances in order."""
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
    checkpoints: Sequence[str],
    emotions: Sequence[str] | None,
    lines_in: Callable[[int], Sequence[Sequence[Line]]],
    progress: Progress,
) -> NDArray[np.float32]:
    """[n, C] float32 mean posterior of the checkpoints' readers of all seeds, on a CPU and once for the same lines.

    emotions: those that a teacher must have; None: whichever the first has. lines_in: the n utterances, with up to so
    many before each. Raises CheckpointError for a teacher without a reader, or with other emotions.
    """
    said: list[NDArray[np.float32]] = []
    for name in checkpoints:
        config, folder = load_config(name), resolve(name)
        if config.reader is None or not (folder / "reader").is_dir():
            raise CheckpointError(f"checkpoint {name!r} has no reader, and cannot teach one")
        emotions = emotions or config.emotions
        if config.emotions != tuple(emotions):
            raise CheckpointError(
                f"checkpoint {name!r} cannot teach here: its emotions are {', '.join(config.emotions)}, "
                f"not {', '.join(emotions)}"
            )
        lines = lines_in(config.reader.context)
        readers = (folder / "reader", *sorted((folder / "seeds").glob("reader-*")))
        said += [encode_lines(lines, config.reader, reader, ContextReader, progress) for reader in readers]
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
    names, emotions = teaching.checkpoints, labels.emotions
    posterior = ask(names, emotions, lambda context: so_far(training, context), progress)
    if teaching.sentences == 0 or not sentences:
        drawn_from = Examples([], np.zeros((0, len(emotions)), np.float32))
    else:
        drawn_from = Examples(sentences, ask(names, emotions, lambda _: sentences, progress))
    return Lessons(teaching.share, posterior, drawn_from, teaching.sentences)
