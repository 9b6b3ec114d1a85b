"""What a terminal shows of utterances that go on, and of those that have ended."""

from __future__ import annotations

from collections import OrderedDict

from stream.events import Event, UtteranceFailed
from tests.support.events import EMOTION, label, partial
from workers.console.rows import Row, update


def shown(*events: Event, limit: int = 9) -> dict[int, Row]:
    rows: OrderedDict[int, Row] = OrderedDict()
    for event in events:
        update(rows, event, limit)
    return rows


def test_words_that_may_still_change_are_dim_until_the_utterance_has_ended() -> None:
    so_far = partial("one", 3, "So what [do", stable="So what")
    interim = label("one", 3, text="So what [do", trigger="interval")
    for row in (shown(so_far)[3], shown(so_far, interim)[3]):
        assert row.words.plain == "So what [do"
        assert [(span.start, span.end, span.style) for span in row.words.spans if span.start < span.end] == [
            (7, 11, "dim italic")
        ]
    row = shown(so_far, interim, EMOTION)[3]
    assert row == Row(EMOTION) and row.words.plain == "Hi" and not row.words.markup.count("dim italic")


def test_one_that_fails_is_shown_only_by_what_label_it_had() -> None:
    so_far = partial("one", 3, "So", stable="")
    failed = UtteranceFailed(
        id="f", session="one", utterance=3, speaker=None, audio_start=1, audio_end=2, reason="no speech"
    )
    assert shown(so_far, failed) == {}
    assert shown(EMOTION, so_far, failed) == {3: Row(EMOTION)}


def test_the_last_ones_are_kept() -> None:
    assert list(shown(*(label("one", n) for n in range(12)), limit=5)) == [7, 8, 9, 10, 11]
