from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.encoders.speaker import SpeakerEncoder, narrowband
from model.training.voice_train import filtered
from stream.sources.file import read_audio
from tests.support.recordings import RATE, voice

ENCODER = SpeakerEncoder()


def test_embeddings_are_unit_vectors_whatever_the_length() -> None:
    for seconds in (0.05, 0.5, 1.6, 4.0):
        vector = ENCODER(voice(seconds))
        assert vector.shape == (256,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(ENCODER(np.zeros(RATE, np.float32))).all()
    assert np.isfinite(ENCODER(np.zeros(0, np.float32))).all()


def test_one_voice_does_not_change() -> None:
    assert ENCODER.changes(voice(8)) == []
    assert ENCODER.changes(voice(1)) == []


@pytest.mark.data
def test_voices_are_told_apart_and_their_change_is_found(data: Path) -> None:
    clips = {p.stem: read_audio(p)[0] for p in sorted((data / "librispeech").glob("*-*.flac"))[:8]}
    (one, other) = (np.concatenate([clips[k] for k in clips if k.startswith(who)]) for who in ("1688", "1998"))
    pieces = [one[: 3 * RATE], one[5 * RATE : 8 * RATE], other[: 3 * RATE], other[5 * RATE : 8 * RATE]]
    vectors = np.stack([ENCODER(piece) for piece in pieces])
    alike = vectors @ vectors.T
    assert min(alike[0, 1], alike[2, 3]) > max(alike[0, 2], alike[0, 3], alike[1, 2], alike[1, 3])
    changes = ENCODER.changes(np.concatenate([one[: 4 * RATE], other[: 4 * RATE]]))
    assert any(change == pytest.approx(4, abs=0.6) for change in changes)


@pytest.mark.data
def test_a_telephone_is_recognized(data: Path) -> None:
    assert narrowband(read_audio(data / "conversations" / "telephone" / "sample.wav")[0])
    speech = read_audio(data / "librispeech" / "jfk.flac")[0]
    assert narrowband(filtered(speech, telephone=True))
    wide = read_audio(sorted((data / "librispeech").glob("1998-*.flac"))[0])[0]
    assert not narrowband(wide)
