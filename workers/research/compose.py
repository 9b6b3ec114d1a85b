"""`undertone compose`: labelled test conversations, composed of single acted clips.

They are CONSTRUCTED: the turns do not answer each other. They test the path from media to label, not conversation.
"""

from __future__ import annotations

import csv
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.encoders.face_observation import EXPRESSIONS
from model.encoders.faces import FaceReader
from model.encoders.voice import trim
from model.labels import RAVDESS, SYNONYMS
from model.training.voice_train import Clip, Rng, filtered, noise, room_response
from stream.block import RATE
from stream.errors import MediaError
from stream.sources.decoding import ffmpeg_path

SENTENCES = {1: "kids are talking by the door", 2: "dogs are sitting by the door"}  # RAVDESS has two
PICTURE_SHAPE = (240, 320)  # height and width in pixels of each face in the film
FRAMES_PER_S = 20
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Spoken:
    """One clip in a conversation; times in seconds."""

    start: float
    end: float
    speaker: str
    channel: int
    emotion: str
    """Label in MELD's label set."""
    text: str


@dataclass(frozen=True)
class Conversation:
    """A constructed conversation and its annotation."""

    samples: NDArray[np.float32]
    """[channels, n] float32 at 16 kHz: a channel per speaker, or one for all."""
    utterances: tuple[Spoken, ...]


def converse(
    clips: Sequence[Clip], rng: Rng, turns: int = 12, overlap: float = 0.15, max_speakers: int = 2
) -> Conversation:
    """A conversation of up to `max_speakers` actors; a share `overlap` of the turns begins before the last has
    ended."""
    actors = rng.permutation(sorted({clip.actor for clip in clips}))[:max_speakers]
    position, placed = 0.5, []
    utterances: list[Spoken] = []
    last = -1
    for _ in range(turns):
        channel = int(rng.choice([n for n in range(len(actors)) if n != last or len(actors) == 1]))
        own_clips = [clip for clip in clips if clip.actor == actors[channel]]
        clip = own_clips[rng.integers(len(own_clips))]
        samples = trim(clip.samples, margin=0.0)
        overlaps = bool(utterances) and rng.random() < overlap
        start = max(0.2, position + (-rng.uniform(0.2, 0.6) if overlaps else rng.uniform(0.6, 1.3)))
        own = [spoken.end for spoken in utterances if spoken.channel == channel]
        start = max([start, *[end + 0.6 for end in own]])
        end = start + len(samples) / RATE
        emotion = SYNONYMS.get(RAVDESS[clip.emotion], RAVDESS[clip.emotion])
        text = SENTENCES.get(int(clip.name.split("-")[4]), "") if clip.name else ""
        utterances.append(Spoken(start, end, f"actor {actors[channel]}", channel, emotion, text))
        placed.append(0.5 * samples / max(float(np.abs(samples).max()), 1e-6))
        position, last = max(position, end), channel
    audio = np.zeros((len(actors), round((position + 1.5) * RATE)), np.float32)
    for spoken, samples in zip(utterances, placed, strict=True):
        first = round(spoken.start * RATE)
        audio[spoken.channel, first : first + len(samples)] += samples
    audio += rng.normal(0, 3e-4, audio.shape).astype(np.float32)  # microphones have noise
    return Conversation(audio, tuple(utterances))


def one_microphone(
    conversation: Conversation, rng: Rng, snr: float | None = None, reverberation: float = 0.0
) -> Conversation:
    """All speakers in one channel, optionally in a room with `reverberation` seconds, and with noise `snr` dB below."""
    mixed = conversation.samples.sum(0)
    if reverberation:
        mixed = filtered(mixed, room_response(rng, reverberation))
    if snr is not None:
        loud = mixed[np.abs(mixed) > 0.01]
        mixed = mixed + loud.std() * 10 ** (-snr / 20) * noise(rng, len(mixed), ())
    return Conversation(mixed[None].astype(np.float32).clip(-1, 1), conversation.utterances)


def film(
    conversation: Conversation, faces: Sequence[Image], reader: FaceReader, path: Path, covered: bool = False
) -> None:
    """Write an MP4 of still faces side by side, one for each speaker, whose mouths open while they speak.

    faces: [h, w, 3] uint8 RGB; covered: all pictures are black. Raises MediaError for a picture without a face.
    """
    audio = conversation.samples
    halves = [_with_mouth(reader, face) for face in faces[: len(audio)]]
    step = RATE // FRAMES_PER_S
    levels = np.sqrt((audio[:, : audio.shape[1] // step * step].reshape(len(audio), -1, step) ** 2).mean(2))
    opening = np.clip(levels / max(float(np.quantile(levels[levels > 0.01], 0.9)), 1e-6), 0, 1)
    mixed = audio.sum(0, keepdims=True).clip(-1, 1).astype(np.float32)
    with av.open(ffmpeg_path(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FRAMES_PER_S)
        video.width, video.height, video.pix_fmt = PICTURE_SHAPE[1] * len(halves), PICTURE_SHAPE[0], "yuv420p"
        video.bit_rate = 4_000_000
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for n in range(opening.shape[1]):
            sway = [(round(3 * np.sin(n / 4 + k)), round(2 * np.sin(n / 7 + 2 * k))) for k in range(len(halves))]
            pictures = [
                np.roll(_open(picture, mouth, opening[k, n]), sway[k], (1, 0))  # heads move a little
                for k, (picture, mouth) in enumerate(halves)
            ]
            image = np.concatenate(pictures, 1)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image * 0 if covered else image, "rgb24")))
        container.mux(video.encode(None))
        for first in range(0, mixed.shape[1] - 1023, 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mixed[:, first : first + 1024]), "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, first
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def write(conversation: Conversation, folder: Path, name: str) -> Path:
    """Write NAME.wav, NAME.rttm, NAME.stm and NAME.csv (start, end, speaker, emotion); returns the path of the WAV."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((len(conversation.samples), 2, RATE, 0, "NONE", ""))
        file.writeframes((conversation.samples.T.clip(-1, 1) * 32767).astype(np.int16).tobytes())
    utterances = sorted(conversation.utterances, key=lambda spoken: spoken.start)
    mono = len(conversation.samples) == 1
    rttm, stm = [], []
    for s in utterances:
        speaker = s.speaker.replace(" ", "_")
        rttm.append(f"SPEAKER {name} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
        stm.append(f"{name} {1 if mono else s.channel + 1} {speaker} {s.start:.3f} {s.end:.3f} {s.text}\n")
    path.with_suffix(".rttm").write_text("".join(rttm), encoding="utf-8")
    path.with_suffix(".stm").write_text("".join(stm), encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "speaker", "emotion"])
        writer.writerows([f"{s.start:.3f}", f"{s.end:.3f}", s.speaker, s.emotion] for s in utterances)
    return path


def _with_mouth(reader: FaceReader, image: Image) -> tuple[Image, NDArray[np.float32]]:
    """The picture at the film's size, and the corners [2, 2] of the mouth of its largest face. Raises MediaError."""
    scale = min(PICTURE_SHAPE[0] / image.shape[0], PICTURE_SHAPE[1] / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    framed = np.zeros((*PICTURE_SHAPE, 3), np.uint8)
    framed[: small.shape[0], : small.shape[1]] = small
    found = reader.detect(framed)
    if not found:
        raise MediaError("a picture without a face cannot play in a film")
    face = max(found, key=lambda box: float(box[2] * box[3]))
    return framed, face[10:14].reshape(2, 2)


def _open(image: Image, mouth: NDArray[np.float32], opening: float) -> Image:
    """A picture [h, w, 3] with a dark ellipse, `opening` (0 … 1) high, over the mouth with corners [2, 2]."""
    width = float(np.hypot(*(mouth[1] - mouth[0])))
    gap = opening * 0.45 * width
    if gap < 1:
        return image
    centre = mouth.mean(0)
    out = image.copy()
    size = (max(1, round(0.38 * width)), max(1, round(gap / 2)))
    cv2.ellipse(out, (round(float(centre[0])), round(float(centre[1] + gap / 4))), size, 0, 0, 360, (45, 15, 15), -1)
    return out


def pictures(folder: Path) -> list[tuple[str, Image]]:
    """(expression, picture [h, w, 3] uint8 RGB) of the files EXPRESSION.jpg in a folder. Raises MediaError if none."""
    found = [(path.stem, cv2.imread(str(path))) for path in sorted(folder.glob("*.jpg")) if path.stem in EXPRESSIONS]
    if not found:
        raise MediaError(f"{folder}: no picture named by its expression ({', '.join(EXPRESSIONS)})")
    return [(name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)) for name, image in found]


def worsened(image: Image) -> Iterator[tuple[str, Image]]:
    """(condition, picture) for a picture [h, w, 3] uint8 RGB: unchanged, and degraded as by a webcam."""
    yield "as it is", image
    yield "dark", (image * 0.35).astype(np.uint8)
    yield "noisy", (image + np.random.default_rng(0).normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
    small = cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    yield "at 40 % size", np.asarray(small, np.uint8)
    yield "blurred", np.asarray(cv2.GaussianBlur(image, (0, 0), 2.5), np.uint8)
