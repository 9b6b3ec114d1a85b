from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stream.block import RATE, Block
from stream.sources.file import FileSource, read_audio
from stream.speech.endpointing import Endpointing
from stream.speech.segmenter import TurnSegmenter
from stream.speech.turns import Turn
from workers.session.whole_recording import find_turns


def test_silence_has_no_turns() -> None:
    blocks = [Block(n, float(n), np.zeros((1, RATE), np.float32)) for n in range(12)]
    assert find_turns(blocks) == []
    assert find_turns([]) == []


def test_where_only_others_speak_a_turn_is_silent() -> None:
    segmenter = TurnSegmenter([Turn(1.0, 3.0, "Ann", silenced=((1.5, 2.0), (9.0, 9.5)))], Endpointing())
    (utterance,) = [*segmenter.push(np.ones(4 * RATE, np.float32)), *segmenter.flush()]
    sound = utterance.samples
    assert (
        len(sound) == 2 * RATE
        and sound[: RATE // 3].min() == pytest.approx(1)
        and sound[-RATE // 2 :].min() == pytest.approx(1)
    )
    assert np.abs(sound[round(0.52 * RATE) : round(0.98 * RATE)]).max() < 1e-6


@pytest.mark.data
def test_two_who_cut_in_on_each_other_are_told_apart(data: Path) -> None:
    call = data / "conversations" / "telephone" / "sample.wav"
    positions: list[float | None] = []
    turns = find_turns(FileSource(call, "mix"), people=(2, 2), listened_to=positions.append)
    assert {turn.speaker for turn in turns} == {"speaker 1", "speaker 2"}
    assert [turn.end for turn in turns] == sorted(turn.end for turn in turns)
    assert any(one.end - other.start > 0.2 for one, other in pairwise(turns)), "they overlap"
    assert positions == pytest.approx([n / 25 for n in range(1, 751)])
    whole = Block(0, 0.0, read_audio(call))
    again = find_turns([whole], people=(2, 2))
    assert [(turn.start, turn.end, turn.speaker) for turn in again] == [
        (turn.start, turn.end, turn.speaker) for turn in turns
    ]
