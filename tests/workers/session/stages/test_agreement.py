"""The stable part of hypotheses that follow one another."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from workers.session.stages.agreement import Agreement


def told(*hypotheses: str) -> list[tuple[str, str]]:
    """After each hypothesis, the stable part and the whole."""
    agreement = Agreement()
    after = []
    for hypothesis in hypotheses:
        agreement.add(hypothesis)
        after.append((agreement.stable, agreement.text))
    return after


def test_words_are_stable_once_two_hypotheses_in_a_row_agree() -> None:
    assert told("I", "I think", "I think so", "I think no") == [
        ("", "I"),
        ("I", "I think"),
        ("I think", "I think so"),
        ("I think", "I think no"),
    ]


@pytest.mark.parametrize(
    ("hypotheses", "stable", "text"),
    [
        (("hello world.", "Hello, World is"), "Hello, World", "Hello, World is"),
        (("Hello.", "Hello."), "Hello", "Hello"),
        (("Hello.", "Hello.", "hello there", "Hello there you"), "Hello there", "Hello there you"),
        (("one two three", "one two", "one two three"), "one two", "one two three"),
        (("so it", "so it", "no that is"), "so it", "so it is"),
        (("so it is", "so it is", "so"), "so it is", "so it is"),
        (("so it", "no it"), "", "no it"),
        (("", "so", ""), "", ""),
        (("– so", "... so"), "... so", "... so"),
        (("...", "..."), "...", "..."),
    ],
    ids=[
        "case and punctuation do not count",
        "the end of a hypothesis is no end of a sentence",
        "and goes on without a full stop",
        "agreement is with the last hypothesis alone",
        "a contradiction counts only after the committed words",
        "a shorter one takes nothing back",
        "a changed beginning",
        "silence",
        "punctuation alone is a word like any other",
        "also at the end",
    ],
)
def test_agreement(hypotheses: tuple[str, ...], stable: str, text: str) -> None:
    assert told(*hypotheses)[-1] == (stable, text)


def test_what_is_stable_stays_so_whatever_comes() -> None:
    rng = random.Random(0)
    for _ in range(300):
        words = ["a", "B,", "b", "c.", "…", "d?"]
        after = told(*(" ".join(rng.choices(words, k=rng.randint(0, 6))) for _ in range(12)))
        assert all(text.startswith(stable) for stable, text in after)
        for (earlier, _), (later, _) in pairwise(after):
            assert later.split()[: len(earlier.split())] == earlier.split()
