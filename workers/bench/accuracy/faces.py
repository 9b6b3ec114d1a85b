"""`undertone bench faces`: face detection, expression classification, and detection of the active speaker."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoders.face_observation import EXPRESSIONS
from model.encoders.faces import MINI_XCEPTION, Array, ExpressionNet, FaceReader, crop
from model.training.voice_train import Clip
from stream.sources.file import FileSource, read_audio
from workers.bench.accuracy.data import comparison_net, ravdess
from workers.console.errors import development_data
from workers.console.tables import Rows
from workers.research.compose import converse, film, pictures, worsened

Image = NDArray[np.uint8]


def _expression_nets() -> dict[str, ExpressionNet]:
    """The shipped expression network, and that of face-api.js if it is on this machine."""
    path = comparison_net("fer_faceapi", "faceapi_expression.onnx")
    other = {} if path is None else {"fer_faceapi": ExpressionNet(path, _colour_square, tuple(range(7)))}
    return {"fer_mini_xception": MINI_XCEPTION} | other


def _colour_square(image: Image, box: Array) -> Array:
    """[1, 3, 112, 112] float32 RGB, 0 … 255: the square around a face, with a margin of a tenth on each side."""
    return crop(image, box, 1.2, 112).astype(np.float32).transpose(2, 0, 1)[None]


def bench_faces(folder: Path) -> Rows:
    """Rows by expression network and degradation of the pictures, then of the active speaker in composed films.

    Raises MediaError.
    """
    known, rows = pictures(folder), []
    for name, net in _expression_nets().items():
        faces = FaceReader(net)
        for condition in ("as it is", "dark", "noisy", "at 40 % size", "blurred"):
            images = [(worn, dict(worsened(image))[condition]) for worn, image in known]
            started = time.perf_counter()
            observations = [faces([image], [0.0], np.zeros(0, np.float32), 0.0) for _, image in images]
            cost = (time.perf_counter() - started) / len(images)
            expressions = [s.expression is not None and EXPRESSIONS[int(s.expression.argmax())] for s in observations]
            rows.append(
                {
                    "what": f"expression, {name}",
                    "pictures": condition,
                    "n": len(images),
                    "found": sum(s.faces > 0 for s in observations),
                    "right": sum(worn == guess for (worn, _), guess in zip(images, expressions, strict=True)),
                    "ms_each": round(1000 * cost, 1),
                }
            )
    return rows + _speaking(known)


def _speaking(known: list[tuple[str, Image]], films: int = 6) -> Rows:
    """A row of active speaker detection between two faces, in films composed of the pictures and RAVDESS clips."""
    clips: list[Clip] = ravdess(development_data() / "ravdess" / "Actor_19")
    clips += ravdess(development_data() / "ravdess" / "Actor_20")
    faces, right, total, looked, cost = FaceReader(), 0, 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(films):
            rng = np.random.default_rng(seed)
            pair = rng.permutation(len(known))[:2]
            conversation = converse(clips, rng, turns=8)
            path = Path(folder) / f"{seed}.mp4"
            film(conversation, [known[n][1] for n in pair], faces, path)
            audio = read_audio(path)[0]
            shown = [frame for block in FileSource(path, "mix") for frame in block.frames]
            for utterance in conversation.utterances:
                frames = [frame for frame in shown if utterance.start <= frame.time < utterance.end]
                samples = audio[round(utterance.start * 16_000) : round(utterance.end * 16_000)]
                started = time.perf_counter()
                images, times = [frame.image for frame in frames], [frame.time for frame in frames]
                spot = faces.speaker_at(images, times, samples, utterance.start)
                cost += time.perf_counter() - started
                looked += len(frames)
                total += 1
                right += spot is not None and int(spot >= shown[0].image.shape[1] / 2) == utterance.channel
    return [
        {
            "what": "which of two faces speaks (composed films)",
            "pictures": f"{films} films",
            "n": total,
            "right": right,
            "ms_each": round(1000 * cost / max(1, looked), 1),
        }
    ]
