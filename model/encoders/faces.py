"""Faces of an utterance's pictures: found (YuNet), followed, judged for quality; which of them speaks, and what
expression it wears.

YuNet (Wu et al. 2023, doi:10.1007/s11633-023-1423-y) runs through OpenCV, mini-Xception (Arriaga et al. 2017, arXiv
1710.07557) through ONNX Runtime; both lie in model/encoders/weights/faces. The mouth that moves with the voice is taken
for the one that speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.encoders.face_observation import FaceObservation

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

FOLDER = Path(__file__).parent / "weights" / "faces"
RATE = 16_000
FRAMES = 30  # most pictures of one utterance that are looked at: a bounded price for any length
WIDTH = 320  # pixels at which faces are searched; crops are taken from the full picture
SMALLEST = 20  # pixels; a smaller face says nothing
SURE = 0.75  # YuNet's score of a face
DARK = 6.0  # grey levels of deviation below which a picture shows nothing (lens covered, light off)


@dataclass(eq=False)
class _Track:
    """One face through the pictures."""

    boxes: list[Array] = field(default_factory=list)  # of YuNet: x, y, w, h, 5 landmarks x 2, score
    pictures: list[int] = field(default_factory=list)  # their numbers
    mouths: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class ExpressionNet:
    """A facial expression net in ONNX: input `image`, output `probs` [1, 7]."""

    file: Path
    prepare: Callable[[Image, Array], Array]
    """From a picture [h, w, 3] RGB and one of its faces [15], as `FaceReader.detect` gives it, to the net's input."""
    order: tuple[int, ...]
    """Positions of `EXPRESSIONS` in the output."""


def _grey_square(image: Image, box: Array) -> Array:
    """[1, 1, 64, 64] grey, -1 … 1: the square around a face."""
    grey = cv2.cvtColor(crop(image, box, 1.0, 64), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scaled: Array = grey / 127.5 - 1
    return scaled[None, None]


MINI_XCEPTION = ExpressionNet(FOLDER / "mini_xception_fer2013.onnx", _grey_square, (6, 3, 4, 0, 2, 1, 5))


class FaceReader:
    """Finds, follows and reads faces. One a process; holds no state between utterances."""

    def __init__(self, expression: ExpressionNet = MINI_XCEPTION) -> None:
        cv2.setNumThreads(1)
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own defaults
        self._detector = cv2.FaceDetectorYN.create(
            str(FOLDER / "yunet_n_320_320.onnx"), "", (WIDTH, WIDTH), SURE, 0.3, 20
        )
        cv2.utils.logging.setLogLevel(level)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._expression, self._order = expression, list(expression.order)
        self._net = onnxruntime.InferenceSession(str(expression.file), options, providers=["CPUExecutionProvider"])

    def __call__(
        self, images: Sequence[Image], times: Sequence[float], samples: Array, start: float
    ) -> FaceObservation:
        """Look at pictures [h, w, 3] RGB taken at `times`, while `samples` [n] at 16 kHz were heard from `start` on."""
        images, times = _evenly(images, times)
        if not images:
            return FaceObservation(0, 0, reason="no picture")
        if max(float(image.std()) for image in images) < DARK:
            return FaceObservation(len(images), 0, reason="the camera is covered or dark")
        tracks = self._follow(images)
        if not tracks:
            return FaceObservation(len(images), 0, reason="no face")
        speaker, share = _speaker(tracks, len(images), loudness(samples, start, times))
        shown = zip(speaker.pictures, speaker.boxes, strict=True)
        crops = [(images[n], box, quality(images[n], box)) for n, box in shown]
        good = float(np.mean([q for *_, q in crops]))
        certain = share if len(tracks) > 1 else None
        observation = FaceObservation(len(images), len(tracks), len(speaker.pictures) / len(images), good, certain)
        if max(q for *_, q in crops) < 0.1:
            return replace(observation, reason="the face is too small, blurred or turned away")
        logs = np.stack([self.express(image, box) for image, box, _ in crops])
        weights = np.array([q for *_, q in crops])
        mean = (logs * weights[:, None]).sum(0) / weights.sum()
        # Poor crops, and a doubtful choice between faces, shall persuade less.
        flat = np.exp(good * share * (mean - mean.max()))
        return replace(observation, expression=(flat / flat.sum()).astype(np.float32))

    def speaker_at(self, images: Sequence[Image], times: Sequence[float], samples: Array, start: float) -> float | None:
        """Where the face that speaks is: the x of its middle, in pixels; None without a face."""
        images, times = _evenly(images, times)
        tracks = self._follow(images)
        if not tracks:
            return None
        box = _speaker(tracks, len(images), loudness(samples, start, times))[0].boxes[-1]
        return float(box[0] + box[2] / 2)

    def detect(self, image: Image) -> list[Array]:
        """Faces [15] of YuNet (box x, y, w, h, five landmarks, score) in the picture's pixels."""
        scale = min(1.0, WIDTH / image.shape[1])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        self._detector.setInputSize((small.shape[1], small.shape[0]))
        _, found = self._detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if found is None:
            return []
        found[:, :14] /= scale
        return [face for face in found if min(face[2:4]) >= SMALLEST]

    def express(self, image: Image, box: Array) -> Array:
        """[7] log-probabilities of `EXPRESSIONS` of one face."""
        (probabilities,) = self._net.run(["probs"], {"image": self._expression.prepare(image, box)})
        logs: Array = np.log(np.maximum(probabilities[0][self._order], 1e-4))
        return logs

    def _follow(self, images: Sequence[Image]) -> list[_Track]:
        """Join each picture's faces to those of the pictures before, by overlap of their boxes."""
        tracks: list[_Track] = []
        for n, image in enumerate(images):
            free = list(tracks)
            for box in sorted(self.detect(image), key=lambda face: -face[14]):
                best = max(free, key=lambda track: overlap(track.boxes[-1], box), default=None)
                if best is None or overlap(best.boxes[-1], box) < 0.3:
                    best = _Track()
                    tracks.append(best)
                else:
                    free.remove(best)
                best.boxes.append(box)
                best.pictures.append(n)
                best.mouths.append(mouth_of(image, box))
        return [track for track in tracks if len(track.pictures) >= max(1, len(images) // 5)]


def _evenly(images: Sequence[Image], times: Sequence[float]) -> tuple[list[Image], list[float]]:
    """At most FRAMES of the pictures, spread over them all."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(FRAMES, len(images))).round().astype(int))
    return [images[n] for n in chosen], [times[n] for n in chosen]


def _speaker(tracks: list[_Track], pictures: int, loud: Array) -> tuple[_Track, float]:
    """The face that speaks and its share in the mouth motion; where no mouth moved, the face that is seen most."""
    shares = speaking_shares([np.stack(track.mouths) for track in tracks], [track.pictures for track in tracks], loud)
    seen = np.array([len(track.pictures) for track in tracks]) / pictures
    best = int(np.argmax(shares + 1e-3 * seen))
    return tracks[best], float(shares[best])


def speaking_shares(mouths: Sequence[Array], pictures: Sequence[Sequence[int]], loud: Array) -> Array:
    """[faces] shares, which sum to 1, of each face in all that mouths do with the voice.

    mouths: of each face [n, 16, 24] mouth regions in the pictures `at`; loud: [pictures] level of the voice at each.
    A mouth counts by how far its pixels go with the level (root mean square of their covariances), beyond what one that
    moves on its own (chewing, nodding) would show by chance.
    """
    scores = []
    for mouth, numbers in zip(mouths, pictures, strict=True):
        level = loud[list(numbers)]
        if len(level) < 3 or level.std() <= 0:
            scores.append(1e-3)
            continue
        level = (level - level.mean()) / level.std()
        moved = mouth - mouth.mean(0)
        together = np.sqrt(((moved * level[:, None, None]).mean(0) ** 2).mean())
        chance = np.sqrt((moved**2).mean() / len(level))
        scores.append(max(1e-3, float(together - chance)))
    shares = np.array(scores, np.float32)
    shares /= shares.sum()
    return shares


def loudness(samples: Array, start: float, times: Sequence[float]) -> Array:
    """[len(times)] level of the voice (root mean square over 160 ms) around each moment."""
    levels = []
    for time in times:
        part = samples[max(0, round((time - 0.1 - start) * RATE)) : max(0, round((time + 0.06 - start) * RATE))]
        levels.append(float(np.sqrt((part**2).mean())) if len(part) else 0.0)
    return np.array(levels, np.float32)


def mouth_of(image: Image, box: Array) -> Array:
    """[16, 24] grey mouth region, upright, of the face's own size and brightness: what moves here is the mouth."""
    right, left = box[10:12], box[12:14]  # the corners of the mouth
    span = max(float(np.hypot(*(left - right))), 4.0)
    centre, angle = (right + left) / 2, float(np.degrees(np.arctan2(*(left - right)[::-1])))
    turn = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, 15.0 / span)
    turn[:, 2] += np.array([12.0, 6.0]) - centre
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mouth: Array = cv2.warpAffine(grey, turn, (24, 16), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mouth = (mouth - mouth.mean()) / max(float(mouth.std()), 8.0)
    return mouth


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, float(width)) * max(0.0, float(height))
    return common / (float(a[2] * a[3] + b[2] * b[3]) - common + 1e-9)


def quality(image: Image, box: Array) -> float:
    """0 … 1 of one face: size, sharpness, how frontal, and the detector's certainty, multiplied."""
    size = min(1.0, float(min(box[2:4])) / 60)
    grey = cv2.cvtColor(crop(image, box, 1.0, 64), cv2.COLOR_RGB2GRAY)
    sharp = min(1.0, float(cv2.Laplacian(grey, cv2.CV_32F).var()) / 100)
    eyes, nose = box[[4, 6]], box[8]  # how far the nose is from the middle between the eyes
    frontal = max(0.0, 1 - 2 * abs(float(nose - eyes.mean())) / max(float(np.ptp(eyes)), 1.0))
    return size * sharp * (0.3 + 0.7 * frontal) * float(box[14])


def crop(image: Image, box: Array, margin: float, side: int) -> Image:
    """[side, side, 3]: the square around a face, `margin` times as large as its longer edge."""
    edge = float(max(box[2:4])) * margin
    x, y = box[0] + box[2] / 2 - edge / 2, box[1] + box[3] / 2 - edge / 2
    scale = side / edge
    place = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float32)
    cut = cv2.warpAffine(image, place, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)
