"""Real faces under the shipped detector and expression net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.encoders.face_observation import EXPRESSIONS
from model.encoders.faces import FaceReader, speaking_shares
from tests.support.recordings import voice
from workers.research.compose import pictures

SILENT = np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def faces() -> FaceReader:
    return FaceReader()


@pytest.fixture(scope="module")
def known(data: Path) -> dict[str, np.ndarray]:
    return dict(pictures(data / "faces"))


@pytest.mark.data
def test_expressions_of_known_faces(faces: FaceReader, known: dict[str, np.ndarray]) -> None:
    right = 0
    for name, image in known.items():
        sight = faces([image], [0.0], SILENT, 0.0)
        assert sight.faces == 1 and sight.visible == 1 and sight.expression is not None
        right += EXPRESSIONS[int(sight.expression.argmax())] == name
    assert right >= 5


def test_no_face_a_covered_camera_and_no_picture_have_their_reasons(faces: FaceReader) -> None:
    wall = np.random.default_rng(0).integers(60, 200, (240, 320, 3)).astype(np.uint8)
    assert faces([wall], [0.0], SILENT, 0.0).reason == "no face"
    assert faces([wall // 60], [0.0], SILENT, 0.0).reason == "the camera is covered or dark"
    assert faces([], [], SILENT, 0.0).reason == "no picture"


@pytest.mark.data
def test_a_poor_crop_persuades_less(faces: FaceReader, known: dict[str, np.ndarray]) -> None:
    import cv2

    clear, blurred = known["happy"], cv2.GaussianBlur(known["happy"], (0, 0), 4)
    sharp, poor = (faces([image], [0.0], SILENT, 0.0) for image in (clear, blurred))
    assert poor.quality < 0.8 * sharp.quality
    assert sharp.expression is not None
    assert poor.expression is None or poor.expression.max() < sharp.expression.max()
    tiny = cv2.resize(clear, None, fx=0.06, fy=0.06)
    small = faces([tiny], [0.0], SILENT, 0.0)
    assert small.expression is None


@pytest.mark.data
def test_a_face_that_leaves_the_picture(faces: FaceReader, known: dict[str, np.ndarray]) -> None:
    there, gone = known["neutral"], np.full_like(known["neutral"], 90)
    gone[::2] = 120
    sight = faces([there] * 4 + [gone] * 4, [n / 10 for n in range(8)], voice(0.8), 0.0)
    assert sight.faces == 1 and sight.visible == pytest.approx(0.5)


@pytest.mark.data
def test_the_number_of_pictures_is_bounded(faces: FaceReader, known: dict[str, np.ndarray]) -> None:
    images = [known["neutral"]] * 100
    assert faces(images, [n / 10 for n in range(100)], voice(10), 0.0).frames == 30


def test_the_mouth_that_goes_with_the_voice_speaks() -> None:
    rng = np.random.default_rng(0)
    loud = np.abs(np.sin(np.arange(20) / 2)).astype(np.float32)
    shape = rng.normal(size=(16, 24))
    speaking = (loud[:, None, None] * shape + 0.2 * rng.normal(size=(20, 16, 24))).astype(np.float32)
    chewing = (rng.permutation(loud)[:, None, None] * shape + 0.2 * rng.normal(size=(20, 16, 24))).astype(np.float32)
    at = [list(range(20))] * 2
    shares = speaking_shares([chewing, speaking], at, loud)
    assert shares.sum() == pytest.approx(1) and shares[1] > 0.7
    still = np.zeros((20, 16, 24), np.float32)
    np.testing.assert_allclose(speaking_shares([still, still], at, loud), [0.5, 0.5])
