from __future__ import annotations

from pathlib import Path

import pytest

from model.progress import Silent
from stream.errors import MediaError
from tests.support.recordings import RATE, write_wav
from tests.support.sounds import hiss
from workers.bench.accuracy.sounds import bench_sounds


def test_a_row_for_each_folder_and_each_acted_emotion(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no audio file in librispeech"):
        bench_sounds(tmp_path, Silent())
    for name in ("librispeech/read.wav", "conversations/ami/a.wav", "ravdess/Actor_01/03-01-06-02-01-02-01.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        write_wav(tmp_path / name, hiss(6 * RATE, -30, seed=0)[None])
    rows = bench_sounds(tmp_path, Silent())
    assert [row["recordings"] for row in rows] == ["librispeech", "ami", "acted, fearful"]
    for row in rows:
        assert (row["n"], row["minutes"], row["laughter_an_hour"], row["sigh_an_hour"]) == (1, 0.1, 0.0, 0.0)
        assert 0 <= row["crying_highest"] < 0.3 and row["ms_a_second"] > 0
