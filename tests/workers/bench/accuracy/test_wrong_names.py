"""The simulation of wrong names, and the grid of thresholds: what they are put together from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.data.tables import Dialogue, Row
from stream.block import RATE
from stream.speech.speakers import SpeakerClusters
from stream.speech.turns import Turn
from workers.bench.accuracy import wrong_names
from workers.bench.accuracy.constructed import MARGIN_S, Stretch, read_out
from workers.bench.accuracy.speaker_grid import settings


def stretches(seconds: float, seed: int) -> list[Stretch]:
    size = round((seconds + 2 * MARGIN_S) * RATE)
    return [Stretch(np.random.default_rng([seed, n]).normal(0, 0.1, size).astype(np.float32)) for n in range(4)]


def test_turns_are_read_out_in_order_where_the_truth_says() -> None:
    voices = {name: [stretches(0.8, seed)] for seed, name in enumerate("ab")}
    made = read_out(voices, [("a", 0.5), ("b", 2.0), ("b", 0.5), ("a", 0.5)], seed=1)
    assert [turn.speaker for turn in made.turns] == ["a", "b", "b", "a"]
    assert made.turns[2].start - made.turns[1].end > 1, "who goes on has paused"
    loud = np.abs(made.samples) > 0.005
    for turn, after in zip(made.turns, made.turns[1:], strict=False):
        assert loud[round(turn.start * RATE) : round(turn.end * RATE)].mean() > 0.5
        assert after.start > turn.end and not loud[round((turn.end + MARGIN_S) * RATE) + 1]


def test_a_turn_has_the_name_that_is_found_in_most_of_it() -> None:
    found = [Turn(0, 1, "x"), Turn(1, 3, "y"), Turn(9, 10, "z")]
    assert wrong_names._speaker_of(Turn(0.5, 3, "a"), found) == "y"
    assert wrong_names._speaker_of(Turn(6.5, 8, "a"), found) == "z", "nobody was found in it"
    assert wrong_names._speaker_of(Turn(0, 1, "a"), []) == "speaker 1"


def test_names_are_matched_before_they_are_counted_as_wrong() -> None:
    rows = [Row(name, "", "joy", "positive", None) for name in "aabbc"]
    true = Dialogue("1", rows)
    found = replace(true, rows=[replace(row, speaker=name) for row, name in zip(rows, "22111", strict=True)])
    assert wrong_names._wrong([(true, found)]) == pytest.approx(1 / 5)
    assert wrong_names._wrong([(true, true)]) == 0


def test_each_setting_of_the_grid_changes_one_thing() -> None:
    shipped, *others = settings()
    assert shipped.cluster_class().SAME == SpeakerClusters.SAME
    assert len({(each.name, each.value) for each in others}) == len(others)
    for each in others:
        same = replace(each, name=shipped.name, value=shipped.value)
        assert same != shipped
        for threshold, value in each.clusters:
            assert getattr(each.cluster_class(), threshold) == value != getattr(SpeakerClusters, threshold)
