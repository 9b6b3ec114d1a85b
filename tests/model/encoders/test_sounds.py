from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.encoders.sounds import CLASSES, HOP, WINDOW, SoundDetector
from model.encoders.voice_observation import Sound, SoundName
from stream.sources.file import read_audio
from tests.support.recordings import RATE
from tests.support.sounds import hiss

DETECTOR = SoundDetector()


def scores(**shares: float) -> np.ndarray:
    """[11] float32, 0 but for the last class of each named sound."""
    found = np.zeros(11, np.float32)
    for name, share in shares.items():
        found[CLASSES[name].stop - 1] = share  # type: ignore[index]
    return found


def scripted(*windows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A network that gives these scores, one after the other."""
    told = iter(windows)
    return lambda window: next(told)


def length(windows: int) -> int:
    """Samples of an utterance with so many windows."""
    return WINDOW + (windows - 1) * HOP


def test_neighbouring_windows_are_one_sound_with_the_highest_score() -> None:
    nothing, laughs = scores(), (scores(laughter=0.5), scores(laughter=0.9), scores(laughter=0.4))
    detect = SoundDetector(scripted(nothing, *laughs, nothing, scores(laughter=0.3)))
    first, second = detect(np.ones(length(6), np.float32))
    assert (first.name, first.probability) == ("laughter", pytest.approx(0.9))
    assert first.start == HOP / RATE and first.end == (3 * HOP + WINDOW) / RATE
    assert second.start == 5 * HOP / RATE and second.end == length(6) / RATE


def test_sounds_are_in_the_order_of_their_starts() -> None:
    heard = [scores(sigh=0.9), scores(crying=0.9), scores(laughter=0.9, crying=0.9)]
    sounds = SoundDetector(scripted(*heard))(np.ones(length(3), np.float32))
    assert [sound.name for sound in sounds] == ["sigh", "crying", "laughter"]


@pytest.mark.parametrize("name, below", [("laughter", 0.19), ("crying", 0.29), ("sigh", 0.49)])
def test_a_low_score_is_no_sound(name: SoundName, below: float) -> None:
    samples = np.ones(WINDOW, np.float32)
    assert SoundDetector(scripted(scores(**{name: below})))(samples) == ()
    assert SoundDetector(scripted(scores(**{name: below + 0.02})))(samples)[0].name == name


@pytest.mark.parametrize("count", [1, 800, WINDOW - 1, WINDOW, WINDOW + 1, length(3) + 100])
def test_windows_are_whole_and_a_sound_ends_with_the_utterance(count: int) -> None:
    taken: list[np.ndarray] = []

    def score(window: np.ndarray) -> np.ndarray:
        taken.append(window)
        return scores(laughter=1.0)

    assert SoundDetector(score)(np.ones(count, np.float32)) == (Sound("laughter", 0.0, count / RATE, 1.0),)
    assert {len(window) for window in taken} == {WINDOW}
    assert len(taken) == 1 + -(-max(0, count - WINDOW) // HOP), "the last window ends with the utterance"
    assert sum(taken[0]) == min(count, WINDOW), "too short an utterance is followed by silence"


def test_silence_and_noise_are_no_sound_of_a_person() -> None:
    assert DETECTOR(np.zeros(0, np.float32)) == DETECTOR(np.zeros(3 * RATE, np.float32)) == ()
    assert DETECTOR(np.full(2 * RATE, 0.1, np.float32)) == ()
    assert DETECTOR(hiss(2 * RATE, -30, seed=0)) == DETECTOR(hiss(500, -30, seed=0)) == ()


def test_scores_are_probabilities_by_window() -> None:
    starts, shares = DETECTOR.scores(hiss(2 * RATE, -30, seed=0))
    assert starts == [0, HOP, 2 * HOP, 2 * RATE - WINDOW] and shares.shape == (4, 11) and shares.dtype == np.float32
    assert shares.min() >= 0 and shares.max() <= 1


@pytest.mark.data
def test_nobody_laughs_cries_or_sighs_who_reads_aloud_or_meets(data: Path) -> None:
    for file in [*sorted((data / "librispeech").glob("*-0000.flac")), data / "conversations" / "ami" / "trn00.flac"]:
        assert DETECTOR(read_audio(file)[0]) == (), file.name


@pytest.mark.data
def test_the_shipped_scores_are_those_of_the_whole_network(data: Path, models: Path) -> None:
    from model.encoders.onnx_session import session_of

    whole = session_of(models / "yamnet" / "yamnet.onnx")
    samples = read_audio(data / "librispeech" / "jfk.flac")[0]
    starts, shares = DETECTOR.scores(samples)
    for start, found in list(zip(starts, shares, strict=True))[::4]:
        (expected,) = whole.run(["scores"], {"waveform": samples[None, start : start + WINDOW]})
        assert found == pytest.approx(expected[0, 13:24], abs=1e-6)
