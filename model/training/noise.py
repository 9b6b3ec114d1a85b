"""Noise in the network's input: wrong words and little punctuation (as by ASR), wrong speakers (as by diarization).

It is used for augmentation in training, and to measure robustness.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.data.tables import Dialogue, Row


def vocabulary(dialogues: Sequence[Dialogue]) -> list[str]:
    """All words of the dialogues with their repetitions, so that draws from them follow the frequency in speech."""
    return [word for dialogue in dialogues for row in dialogue.rows for word in row.text.split()]


def mishear(words: str, wer: float, vocabulary: Sequence[str], rng: np.random.Generator) -> str:
    """The words with random errors at an expected word error rate of `wer`, 0 … 1.

    Of the errors 60 % are substitutions by words drawn from the vocabulary, 25 % deletions and 15 % insertions, about
    the shares of recognizers on conversational speech.
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


def rewrite(words: str, rng: np.random.Generator) -> str:
    """The words with the punctuation that a recognizer writes: hardly any "!" and no "…", "?" only where it is heard.

    The chances are set by hand, near what Whisper base writes of MELD's lines that a synthesizer says: it leaves 7 % of
    the lines with "!" one, and 61 % of those with "?", which people raise their voice for more than a synthesizer does.
    """
    straight = words.translate(str.maketrans("’‘“”", "''\"\""))

    def mark(found: re.Match[str]) -> str:
        written, inside, draw = found.group(), found.end() < len(straight), rng.random()
        if "?" in written:
            return "?" if draw < 0.8 else "."
        if "!" in written:
            return "!" if draw < 0.1 else "," if inside and draw < 0.4 else "."
        return "..." if draw < 0.3 else "," if inside else "."

    rewritten = re.sub(r"(?:[!?…]|\.\.)[!?….]*", mark, straight)
    rewritten = re.sub(r"([?!.,])(?=[^\W\d_])", r"\1 ", rewritten)
    if rng.random() < 0.1:
        rewritten = rewritten.rstrip(".,!")
    return rewritten[:1].lower() + rewritten[1:] if rng.random() < 0.1 else rewritten


def with_word_errors(dialogues: Sequence[Dialogue], wer: float, vocabulary: Sequence[str], seed: int) -> list[Dialogue]:
    """The dialogues with the words that a recognizer with this word error rate (0 … 1) would give."""
    rng = np.random.default_rng(seed)

    def garble(row: Row) -> Row:
        return replace(row, text=mishear(row.text, wer, vocabulary, rng))

    return [replace(dialogue, rows=[garble(row) for row in dialogue.rows]) for dialogue in dialogues]


def with_wrong_speakers(dialogues: Sequence[Dialogue], rate: float, seed: int) -> list[Dialogue]:
    """Assign each utterance with probability `rate` to another speaker of its dialogue (to a new one in a
    monologue)."""
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


def rewritten(dialogues: Sequence[Dialogue], seed: int) -> list[Dialogue]:
    """The dialogues with the punctuation that a recognizer writes, as words that were recognized."""
    rng = np.random.default_rng(seed)

    def recognized(row: Row) -> Row:
        return replace(row, text=rewrite(row.text, rng), recognized=True)

    return [replace(dialogue, rows=[recognized(row) for row in dialogue.rows]) for dialogue in dialogues]
