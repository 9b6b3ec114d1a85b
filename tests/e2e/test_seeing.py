"""Films through the whole live path: faces seen, the camera covered. Constructed of real faces and real voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.encoders.faces import FaceReader
from tests.support.commands import events, labels, undertone
from workers.bench.accuracy.data import ravdess
from workers.research.compose import Conversation, converse, film, pictures

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def conversation(data: Path) -> Conversation:
    clips = ravdess(data / "ravdess" / "Actor_19") + ravdess(data / "ravdess" / "Actor_20")
    return converse(clips, np.random.default_rng(1), turns=5, overlap=0.0)


def make(conversation: Conversation, data: Path, path: Path, covered: bool) -> Path:
    faces = dict(pictures(data / "faces"))
    film(conversation, [faces["happy"], faces["neutral"]], FaceReader(), path, covered)
    return path


def replay(path: Path, redis_url: str, ray_address: str) -> tuple[dict, list[dict]]:
    """The first event of a film's session, and its provisional labels; no model was downloaded."""
    nothing = {"UNDERTONE_MODELS": str(path.parent), "XDG_DATA_HOME": str(path.parent)}
    where = ("--redis", redis_url, "--ray-address", ray_address)
    done = undertone("replay", path, "--asr-model", "base", "--speed", 4, "--json", *where, **nothing)
    assert done.returncode == 0, done.stderr
    return events(done)[0], labels(events(done))


def test_a_film_with_faces(
    conversation: Conversation, data: Path, tmp_path: Path, redis_url, ray_address, base: str
) -> None:
    path = make(conversation, data, tmp_path / "film.mp4", covered=False)
    started, said = replay(path, redis_url, ray_address)
    assert started["encoders"]["visual"] == "faces (YuNet); expert: mini-Xception"
    assert len(said) >= 4
    for event in said:
        seen = event["visual"]
        assert seen["faces"] == 2 and seen["visible"] > 0.8 and seen["quality"] > 0.3 and seen["reason"] is None
        assert "visual" in event["modalities"]["used"] and event["contribution"]["visual"] >= 0
        assert seen["speaking"] >= 0.5
    right = 0
    for event in said:
        middle = (event["audio_start"] + event["audio_end"]) / 2
        truth = min(conversation.utterances, key=lambda spoken: abs((spoken.start + spoken.end) / 2 - middle))
        worn = max(event["visual"]["expression"], key=event["visual"]["expression"].get)
        right += worn == ("happy", "neutral")[truth.channel]
    assert right >= len(said) - 1  # the face that speaks, not the other one


def test_the_same_film_with_the_camera_covered(
    conversation: Conversation, data: Path, tmp_path: Path, redis_url, ray_address, base: str
) -> None:
    path = make(conversation, data, tmp_path / "covered.mp4", covered=True)
    _, said = replay(path, redis_url, ray_address)
    assert len(said) >= 4
    for event in said:
        assert event["visual"]["reason"] == "the camera is covered or dark" and event["visual"]["expression"] is None
        assert event["modalities"]["missing"] == ["visual"] and "visual" not in event["contribution"]
