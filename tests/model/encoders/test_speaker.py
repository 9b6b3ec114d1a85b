from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from model.encoders.filter_banks import filter_banks
from model.encoders.speaker import SpeakerEncoder
from model.encoders.speaker_activity import CLASSES, SpeakerActivityNet
from stream.sources.file import read_audio
from stream.speech.local_speakers import FRAME_S, FRAMES, SPEAKERS, WINDOW
from tests.support.recordings import RATE, voice

ENCODER = SpeakerEncoder()
NETWORK = SpeakerActivityNet()


def test_embeddings_are_unit_vectors_whatever_the_length() -> None:
    for seconds in (0.05, 0.5, 1.6, 4.0):
        vector = ENCODER(voice(seconds))
        assert vector.shape == (256,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(ENCODER(np.zeros(RATE, np.float32))).all()
    assert np.isfinite(ENCODER(np.zeros(0, np.float32))).all()


def test_a_stretch_is_its_own_sound_alone() -> None:
    first, second = voice(2.0), voice(2.0, seed=1)
    whole, before, nothing = ENCODER.stretches(np.concatenate([first, second]), [(0.0, 9.0), (0.0, 2.0), (1.0, 1.0)])
    (other,) = ENCODER.stretches(np.concatenate([first, second[::-1]]), [(0.0, 2.0)])
    assert before @ other > 0.99 > before @ whole
    assert nothing == pytest.approx(whole)


@pytest.mark.data
def test_voices_are_told_apart(data: Path) -> None:
    clips = {p.stem: read_audio(p)[0] for p in sorted((data / "librispeech").glob("*-*.flac"))[:8]}
    (one, other) = (np.concatenate([clips[k] for k in clips if k.startswith(who)]) for who in ("1688", "1998"))
    vectors = np.concatenate([ENCODER.stretches(sound, [(0, 3), (5, 8)]) for sound in (one, other)])
    alike = vectors @ vectors.T
    assert min(alike[0, 1], alike[2, 3]) > 0.3 + max(alike[0, 2], alike[0, 3], alike[1, 2], alike[1, 3])


@pytest.mark.data
def test_who_talks_is_heard_where_two_do(data: Path) -> None:
    clips = sorted((data / "librispeech").glob("*-*.flac"))
    one, other = (read_audio(next(p for p in clips if p.name.startswith(who)))[0] for who in ("1998", "3005"))
    window = np.zeros(WINDOW, np.float32)
    window[: 5 * RATE] += one[: 5 * RATE] / np.abs(one).max() * 0.5
    window[3 * RATE : 8 * RATE] += other[: 5 * RATE] / np.abs(other).max() * 0.5
    activity = NETWORK(window)
    assert activity.shape == (FRAMES, SPEAKERS) and activity.min() >= 0 and activity.max() <= 1.001
    seconds = np.arange(FRAMES) * FRAME_S
    talking = np.sort(activity, 1)[:, ::-1]
    both = (seconds > 3.3) & (seconds < 4.7)
    assert talking[both, 1].mean() > 0.5 > talking[~both, 1].mean()
    assert talking[seconds > 8.5, 0].mean() < 0.3


@pytest.mark.data
def test_the_graphs_are_those_of_pyannote(models: Path) -> None:
    """As they lie in the package they were taken from; the segmentation's last step, a choice, is left out."""
    noise = np.random.default_rng(0).normal(0, 0.1, WINDOW).astype(np.float32)
    published = models / "pyannote_community1"
    (chosen,) = onnxruntime.InferenceSession(str(published / "segmentation.ort")).run(
        None, {"waveforms": noise[None, None]}
    )
    logarithms = NETWORK._session.run(None, {"waveforms": noise[None, None]})[0]
    assert np.array_equal(CLASSES[logarithms.argmax(2)], chosen)
    banks = filter_banks(noise[: 3 * RATE])
    (expected,) = onnxruntime.InferenceSession(str(published / "embedding.ort")).run(
        None, {"fbank": (banks - banks.mean(0))[None], "weights": np.ones((1, len(banks)), np.float32)}
    )
    assert ENCODER(noise[: 3 * RATE]) == pytest.approx(expected[0] / np.linalg.norm(expected), abs=1e-5)
