"""What goes wrong before the network sees anything: wrong words (ASR) and wrong speakers (diarization).

Used to train against, and to measure what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.data.tables import Dialogue, Row


def vocabulary(dialogues: Sequence[Dialogue]) -> list[str]:
    """Every word as often as it is said, for substitutions that look like speech."""
    return [word for dialogue in dialogues for row in dialogue.rows for word in row.text.split()]


def mishear(words: str, wer: float, vocabulary: Sequence[str], rng: np.random.Generator) -> str:
    """The words with an expected word error rate of `wer` (0 … 1): of the errors 60 % substitutions by words drawn
    from the vocabulary, 25 % deletions and 15 % insertions, about what recognizers do on conversational speech.
    """
    recognized: list[str] = []
    for word in words.split():
        draw = rng.random()
        if draw < 0.60 * wer:
            recognized.append(vocabulary[int(rng.integers(len(vocabulary)))])
        elif draw < 0.85 * wer:
            continue
        elif draw < wer:
            recognized += [word, vocabulary[int(rng.integers(len(vocabulary)))]]
        else:
            recognized.append(word)
    return " ".join(recognized)


def with_word_errors(dialogues: Sequence[Dialogue], wer: float, vocabulary: Sequence[str], seed: int) -> list[Dialogue]:
    """The dialogues as a recognizer with this word error rate would have heard them."""
    rng = np.random.default_rng(seed)

    def garble(row: Row) -> Row:
        return replace(row, text=mishear(row.text, wer, vocabulary, rng))

    return [replace(dialogue, rows=[garble(row) for row in dialogue.rows]) for dialogue in dialogues]


def with_wrong_speakers(dialogues: Sequence[Dialogue], rate: float, seed: int) -> list[Dialogue]:
    """Each utterance is given, with chance `rate`, to another speaker of its dialogue (to a new one in a monologue)."""
    rng = np.random.default_rng(seed)
    confused = []
    for dialogue in dialogues:
        speakers = sorted({row.speaker for row in dialogue.rows})
        rows = []
        for row in dialogue.rows:
            if rng.random() < rate:
                others = [name for name in speakers if name != row.speaker] or ["somebody else"]
                row = replace(row, speaker=others[rng.integers(len(others))])
            rows.append(row)
        confused.append(replace(dialogue, rows=rows))
    return confused
