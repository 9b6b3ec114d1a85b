from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream.block import BLOCK_SAMPLES
from stream.speech.transcript import read_transcript
from stream.speech.turns import Turn
from tests.support.events import label
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.recordings import voice, write_wav
from workers.bench.speed.capacity import Level, search
from workers.bench.speed.latency import Stopwatch, turns_row
from workers.bench.speed.looped import LoopedSource, LoopedTranscript, looped_file


@pytest.mark.parametrize(("limit", "most"), [(0, 64), (1, 64), (3, 64), (11, 64), (40, 64), (100, 16)])
def test_the_search_ends_just_below_the_limit(limit: int, most: int) -> None:
    tried = []

    def measure(sessions: int, base: float | None) -> Level:
        assert (base is None) == (sessions == 1)
        tried.append(sessions)
        return Level(sessions, sessions <= limit, 1.0, {}, [])

    levels = search(measure, most)
    assert sorted(tried) == [level.sessions for level in levels] and len(tried) == len(set(tried)) <= 10
    assert max(tried) <= most
    held = max((level.sessions for level in levels if level.held), default=0)
    assert min(limit, most) * 0.8 - 1 <= held <= limit


def test_a_recording_is_repeated_without_a_seam(tmp_path: Path) -> None:
    samples = voice(1.03, seed=1)
    path = write_wav(tmp_path / "a.wav", samples[None])
    source = LoopedSource(path, 3.52)
    blocks = list(source)
    assert [block.number for block in blocks] == list(range(88))
    assert blocks[-1].start == pytest.approx(3.48)
    heard = np.concatenate([block.samples for block in blocks], 1)[0]
    assert np.allclose(heard[: len(samples)], samples, atol=1e-3)
    assert np.array_equal(heard, np.resize(heard[: len(samples)], 88 * BLOCK_SAMPLES))


def test_words_come_again_and_are_not_hoarded() -> None:
    cues = read_transcript(DEMO_TRANSCRIPT, "conversation").cues
    spoken = LoopedTranscript(cues, 58.3)
    for loop in range(200):
        for cue in cues:
            start, end = cue.start + 58.3 * loop, cue.end + 58.3 * loop
            assert spoken.consume(start, end, cue.channel) == cue.text
    assert spoken.unused == 0 and spoken.words == 200 * sum(len(cue.text.split()) for cue in cues)
    silent = LoopedTranscript(cues, 58.3)
    silent.consume(100_000, 100_001)
    assert silent.unused < 3 * sum(len(cue.text.split()) for cue in cues)


def test_a_file_is_as_long_as_asked_in_whole_repetitions(tmp_path: Path) -> None:
    path = looped_file(DEMO, 100, tmp_path)
    source = LoopedSource(path, 1)
    cues = read_transcript(path.with_suffix(".csv"), "looped").cues
    once = read_transcript(DEMO_TRANSCRIPT, "conversation").cues
    assert source.period >= 100 and source.split and len(cues) == 2 * len(once)
    assert cues[len(once)].text == once[0].text and cues[len(once)].channel == once[0].channel
    assert cues[len(once)].start == pytest.approx(once[0].start + source.period / 2, abs=1e-3)


def test_on_one_microphone_a_looped_file_has_one_channel_and_words_of_nobody(tmp_path: Path) -> None:
    path = looped_file(DEMO, 10, tmp_path, one_microphone=True)
    spoken = read_transcript(path.with_suffix(".csv"), "looped")
    once = read_transcript(DEMO_TRANSCRIPT, "conversation").cues
    assert LoopedSource(path, 1).channels == 1 and [cue.text for cue in spoken.cues] == [cue.text for cue in once]
    assert spoken.turns() == [] and {cue.channel for cue in spoken.cues} == {None}


def test_a_turn_waits_for_the_utterance_that_it_is_part_of() -> None:
    watch = Stopwatch()
    watch.taken = [
        (seconds, label("s", n, audio_start=start, audio_end=end))
        for n, (seconds, start, end) in enumerate([(0.5, 0.0, 2.1), (0.6, 1.0, 4.0), (0.5, 4.0, 7.0)])
    ]
    turns = [Turn(0.0, 2.0, "a"), Turn(1.0, 3.0, "b"), Turn(4.0, 7.0, "a"), Turn(8.0, 9.0, "b")]
    # 2.6 - 2.0: the utterance that ends nearest, though another goes on; 4.6 - 3.0: nobody heard its end; 7.5 - 7.0
    assert turns_row(watch, turns) == {"turns": 4, "turns heard": 3, "turn p50": 600, "turn p95": 1500}
    assert turns_row(Stopwatch(), turns) == {"turns": 4, "turns heard": 0}
