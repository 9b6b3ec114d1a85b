from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream import RATE
from stream.media import FileSource
from stream.speakers import SpeakerClusters


def test_the_demos_two_voices_are_told_apart(demo_audio: np.ndarray) -> None:
    clusters = SpeakerClusters()
    turns = [(0, 0.6, 4.6), (1, 5.1, 8.3), (0, 8.9, 12.2), (1, 12.6, 14.6), (0, 15, 17.8), (1, 18.5, 22.3)]
    names = [clusters.assign(demo_audio[c, round(a * RATE) : round(b * RATE)]) for c, a, b in turns]
    assert names == ["speaker 1", "speaker 2"] * 3


@pytest.mark.data
def test_clusters_separate_a_woman_and_a_man(data: Path) -> None:
    clusters, names = SpeakerClusters(), {}
    for speaker in ("1688", "1998"):
        for path in sorted((data / "librispeech").glob(f"{speaker}-*.flac"))[:3]:
            samples = np.concatenate([block.samples for block in FileSource(path)], 1)[0]
            names.setdefault(speaker, []).append(clusters.assign(samples[: 5 * RATE]))
    assert not set(names["1688"]) & set(names["1998"])


def test_clusters_stay_bounded() -> None:
    clusters, rng = SpeakerClusters(), np.random.default_rng(0)
    for n in range(30):
        kernel = rng.normal(size=64) * rng.uniform(0.1, 2)
        noise = np.convolve(rng.normal(size=2 * RATE), kernel, "same")
        name = clusters.assign((0.1 * noise / noise.std()).astype(np.float32))
        assert int(name.split()[1]) <= min(n + 1, SpeakerClusters.MOST)


def test_a_short_stranger_makes_no_new_speaker() -> None:
    clusters, rng = SpeakerClusters(), np.random.default_rng(0)
    clusters.assign(rng.normal(0, 0.1, 2 * RATE).astype(np.float32))
    hum = np.sin(2 * np.pi * 200 * np.arange(RATE // 2) / RATE).astype(np.float32)
    assert clusters.assign(hum) == "speaker 1"
