"""Text as a recognizer writes it."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.tables import Dialogue, Row
from model.training.noise import rewrite, rewritten

LINES = ["No way! You’re…you’re kidding?!", "Oh... well! Fine.", "Ten dollars.", "Wait!!! I - I know."]
OF_TRANSCRIBERS = ("!", "…", "’")


def test_a_recognizer_writes_few_exclamation_marks_and_the_same_words() -> None:
    rng = np.random.default_rng(0)
    written = [rewrite(text, rng) for text in LINES * 200]
    marks = sum(text.count("!") for text in written) / sum(text.count("!") for text in LINES * 200)
    assert 0.02 < marks < 0.15
    assert not any(mark in text for text in written for mark in OF_TRANSCRIBERS if mark != "!")
    for text, said in zip(written, LINES * 200, strict=True):
        words = said.replace("…", " ").replace("’", "'")
        assert text.lower().translate(PLAIN).split() == words.lower().translate(PLAIN).split()
    questions = sum("?" in text for text in written[::4]) / 200
    assert 0.6 < questions < 0.95


PLAIN = str.maketrans("!?.,", "    ")


@pytest.mark.parametrize("text", ["", "!", "...", "A"])
def test_a_text_without_words_stays_one(text: str) -> None:
    assert not rewrite(text, np.random.default_rng(0)).strip(".!?, aA")


def test_rewritten_dialogues_have_recognized_words_and_all_else_as_it_was() -> None:
    dialogues = [Dialogue("1", [Row("Ann", text, "joy", "positive", None, 1.0, 2.0) for text in LINES])]
    (one,) = rewritten(dialogues, seed=3)
    assert [row.recognized for row in one.rows] == [True] * 4 and not dialogues[0].rows[0].recognized
    assert {(row.speaker, row.emotion, row.start) for row in one.rows} == {("Ann", "joy", 1.0)}
    assert rewritten(dialogues, seed=3) == [one] != rewritten(dialogues, seed=4)
