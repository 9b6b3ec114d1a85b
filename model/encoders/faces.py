"""Face analysis of an utterance's pictures: detection (YuNet), tracking, quality, active speaker, expression.

YuNet (Wu et al. 2023, doi:10.1007/s11633-023-1423-y) runs through OpenCV, mini-Xception (Arriaga et al. 2017, arXiv
1710.07557) through ONNX Runtime; both are in model/encoders/weights/faces. The face whose mouth moves with the voice
counts as the speaker's.
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
from model.encoders.transcription import RATE

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

FOLDER = Path(__file__).parent / "weights" / "faces"
MAX_PICTURES = 30  # of one utterance: the cost is bounded for any length
DETECTION_WIDTH_PX = 320  # faces are detected at this width; crops come from the full picture
MIN_FACE_PX = 20  # a smaller face shows no expression
MIN_FACE_SCORE = 0.75  # of YuNet, 0 … 1
MIN_CONTRAST = 6.0  # standard deviation in grey levels; less: the lens is covered or the light is off


@dataclass(eq=False)
class _Track:
    """One face, tracked through the pictures."""

    boxes: list[Array] = field(default_factory=list)  # [15] of YuNet: x, y, w, h, 5 landmarks x 2, score
    pictures: list[int] = field(default_factory=list)  # their numbers
    mouths: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class ExpressionNet:
    """A facial expression network in ONNX: input `image`, output `probs` [1, 7]."""

    file: Path
    prepare: Callable[[Image, Array], Array]
    """Maps a picture [h, w, 3] uint8 RGB and one of its faces [15] of `FaceReader.detect` to the network's input."""
    order: tuple[int, ...]
    """Positions of `EXPRESSIONS` in the network's output."""


def _grey_square(image: Image, box: Array) -> Array:
    """[1, 1, 64, 64] float32 grey, -1 … 1: the square around a face."""
    grey = cv2.cvtColor(crop(image, box, 1.0, 64), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scaled: Array = grey / 127.5 - 1
    return scaled[None, None]


MINI_XCEPTION = ExpressionNet(FOLDER / "mini_xception_fer2013.onnx", _grey_square, (6, 3, 4, 0, 2, 1, 5))


class FaceReader:
    """Detects and tracks faces and classifies their expression. One a process; no state between utterances."""

    def __init__(self, expression: ExpressionNet = MINI_XCEPTION) -> None:
        cv2.setNumThreads(1)
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own defaults
        self._detector = cv2.FaceDetectorYN.create(
            str(FOLDER / "yunet_n_320_320.onnx"), "", (DETECTION_WIDTH_PX, DETECTION_WIDTH_PX), MIN_FACE_SCORE, 0.3, 20
        )
        cv2.utils.logging.setLogLevel(level)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._expression, self._order = expression, list(expression.order)
        self._net = onnxruntime.InferenceSession(str(expression.file), options, providers=["CPUExecutionProvider"])

    def __call__(
        self, images: Sequence[Image], times: Sequence[float], samples: Array, start: float
    ) -> FaceObservation:
        """Analyse the pictures of one utterance.

        images: [h, w, 3] uint8 RGB; times: seconds of each; samples: [n] float32 at 16 kHz, the utterance's audio from
        `start` (seconds on the same clock) on.
        """
        images, times = _evenly(images, times)
        if not images:
            return FaceObservation(0, 0, reason="no picture")
        if max(float(image.std()) for image in images) < MIN_CONTRAST:
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
        # Poor crops, and an uncertain choice between faces, make the posterior flatter.
        flat = np.exp(good * share * (mean - mean.max()))
        return replace(observation, expression=(flat / flat.sum()).astype(np.float32))

    def speaker_at(self, images: Sequence[Image], times: Sequence[float], samples: Array, start: float) -> float | None:
        """Horizontal centre of the speaker's face in pixels; None without a face.

        images: [h, w, 3] uint8 RGB; times, samples [n], start: as in `__call__`.
        """
        images, times = _evenly(images, times)
        tracks = self._follow(images)
        if not tracks:
            return None
        box = _speaker(tracks, len(images), loudness(samples, start, times))[0].boxes[-1]
        return float(box[0] + box[2] / 2)

    def detect(self, image: Image) -> list[Array]:
        """Faces [15] float32 of a picture [h, w, 3] uint8 RGB: box x, y, w, h, five landmarks, in pixels, and the
        score."""
        scale = min(1.0, DETECTION_WIDTH_PX / image.shape[1])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        self._detector.setInputSize((small.shape[1], small.shape[0]))
        _, found = self._detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if found is None:
            return []
        found[:, :14] /= scale
        return [face for face in found if min(face[2:4]) >= MIN_FACE_PX]

    def express(self, image: Image, box: Array) -> Array:
        """[7] float32 log-probabilities of `EXPRESSIONS` of a face [15] in a picture [h, w, 3] uint8 RGB."""
        (probabilities,) = self._net.run(["probs"], {"image": self._expression.prepare(image, box)})
        logs: Array = np.log(np.maximum(probabilities[0][self._order], 1e-4))
        return logs

    def _follow(self, images: Sequence[Image]) -> list[_Track]:
        """Track faces from picture to picture by the overlap of their boxes."""
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
    """At most `MAX_PICTURES` of the pictures, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(MAX_PICTURES, len(images))).round().astype(int))
    return [images[n] for n in chosen], [times[n] for n in chosen]


def _speaker(tracks: list[_Track], pictures: int, loud: Array) -> tuple[_Track, float]:
    """The speaker's face and its share in the mouth motion; if no mouth moves, the face on most pictures."""
    shares = speaking_shares([np.stack(track.mouths) for track in tracks], [track.pictures for track in tracks], loud)
    seen = np.array([len(track.pictures) for track in tracks]) / pictures
    best = int(np.argmax(shares + 1e-3 * seen))
    return tracks[best], float(shares[best])


def speaking_shares(mouths: Sequence[Array], pictures: Sequence[Sequence[int]], loud: Array) -> Array:
    """[faces] float32: share of each face in the mouth motion that goes with the voice; sums to 1.

    mouths: [n, 16, 24] float32 mouth regions of each face; pictures: numbers [n] of the pictures that they are of;
    loud: [pictures] float32 level of the voice. The score of a face is the root mean square covariance of its mouth's
    pixels with the level, less the value that motion without relation to the voice (chewing, nodding) has by chance.
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
    """[len(times)] float32 root mean square of the samples [n] at 16 kHz over 160 ms around each moment in seconds."""
    levels = []
    for time in times:
        part = samples[max(0, round((time - 0.1 - start) * RATE)) : max(0, round((time + 0.06 - start) * RATE))]
        levels.append(float(np.sqrt((part**2).mean())) if len(part) else 0.0)
    return np.array(levels, np.float32)


def mouth_of(image: Image, box: Array) -> Array:
    """[16, 24] float32 grey mouth region of a face [15] in a picture [h, w, 3], normalised for rotation, size and
    brightness, so that only the motion of the mouth is left."""
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
    """Intersection over union of two boxes [4 or more]: x, y, width, height, …"""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, float(width)) * max(0.0, float(height))
    return common / (float(a[2] * a[3] + b[2] * b[3]) - common + 1e-9)


def quality(image: Image, box: Array) -> float:
    """Quality of a face [15] in a picture [h, w, 3], 0 … 1: product of size, sharpness, frontality, detector score."""
    size = min(1.0, float(min(box[2:4])) / 60)
    grey = cv2.cvtColor(crop(image, box, 1.0, 64), cv2.COLOR_RGB2GRAY)
    sharp = min(1.0, float(cv2.Laplacian(grey, cv2.CV_32F).var()) / 100)
    eyes, nose = box[[4, 6]], box[8]  # a frontal face has its nose in the middle between the eyes
    frontal = max(0.0, 1 - 2 * abs(float(nose - eyes.mean())) / max(float(np.ptp(eyes)), 1.0))
    return size * sharp * (0.3 + 0.7 * frontal) * float(box[14])


def crop(image: Image, box: Array, margin: float, side: int) -> Image:
    """[side, side, 3] uint8: the square around a face [15] of a picture [h, w, 3]; its edge is `margin` times the box's
    longer one."""
    edge = float(max(box[2:4])) * margin
    x, y = box[0] + box[2] / 2 - edge / 2, box[1] + box[3] / 2 - edge / 2
    scale = side / edge
    place = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float32)
    cut = cv2.warpAffine(image, place, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)
