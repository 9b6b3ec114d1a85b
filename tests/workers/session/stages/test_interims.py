"""When words and labels of what goes on are due."""

from __future__ import annotations

import numpy as np

from stream.block import Utterance
from workers.session.stages.interims import Interims


def heard(spoken: float, channel: int = 0, start: float = 4.7) -> Utterance:
    onset = start + 0.3
    return Utterance(channel, start, onset + spoken, np.zeros(0, np.float32), onset + spoken, onset=onset)


def schedule(interims: Interims, seconds: float, words: bool = True) -> list[tuple[float, bool]]:
    """Seconds of speech at which an utterance is told of, heard every 20 ms, and whether with a label."""
    told = []
    for n in range(1, round(seconds / 0.02) + 1):
        utterance = heard(n * 0.02 + 1e-9)
        for grown in interims.newly_long([utterance]):
            interims.reserve(grown, 0)
        if (due := interims.next_due([utterance], words)) is not None:
            told.append((round(due.spoken, 2), interims.count_interim(due).label))
    return told


def test_words_come_at_half_a_second_then_each_second_and_labels_at_their_interval() -> None:
    assert schedule(Interims(3.0, words=True), 6.5) == [
        (0.5, False), (1.0, False), (2.0, False), (3.0, True), (4.0, False), (5.0, False), (6.0, True),
    ]  # fmt: skip
    assert schedule(Interims(1.5, words=True), 3.2) == [
        (0.5, False), (1.0, False), (1.5, True), (2.0, False), (3.0, True),
    ]  # fmt: skip


def test_without_words_labels_come_alone() -> None:
    assert schedule(Interims(3.0, words=False), 6.5) == [(3.0, True), (6.0, True)]
    assert schedule(Interims(3.0, words=True), 6.5, words=False) == [(3.0, True), (6.0, True)]


def test_nothing_is_told_when_no_labels_are_wanted() -> None:
    assert schedule(Interims(0.0, words=False), 6.5) == []


def test_no_number_is_given_out_for_what_may_be_dropped_as_too_short() -> None:
    for interims in (Interims(3.0, words=True), Interims(0.1, words=False)):
        assert interims.newly_long([heard(0.49)]) == []
        assert interims.newly_long([heard(0.51)])


def test_a_number_is_given_out_by_media_time_alone() -> None:
    """Also where words are not told at the moment, or a recording would be numbered otherwise when replayed."""
    busy = Interims(3.0, words=True)
    assert busy.newly_long([heard(0.51)])
    busy.reserve(heard(0.51), 7)
    assert busy.next_due([heard(0.51)], words=False) is None
    assert busy.newly_long([heard(5.0)]) == []
    ended = busy.close(heard(6.0))
    assert ended is not None and ended.number == 7


def test_of_several_the_one_that_waits_longest_is_told_of() -> None:
    interims = Interims(3.0, words=True)
    both = [heard(0.6, channel=0), heard(0.9, channel=1)]
    for number, utterance in enumerate(both):
        interims.reserve(utterance, number)
    order = []
    while (due := interims.next_due(both)) is not None:
        order.append(due.channel)
        interims.count_interim(due)
    assert order == [1, 0]
