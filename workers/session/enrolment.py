"""Known voices: `undertone enroll` keeps an embedding of each, and nothing of the recording.

A voice embedding is biometric data: it lies on this machine only, readable by its owner, until it is forgotten.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from platformdirs import user_data_path

from model.encoders.prosody import Array
from stream.private import private_folder
from workers.errors import WorkersError

MIN_SPEECH_S = 5.0  # seconds of speech
EMBEDDING_WIDTH = 256  # of `model.encoders.speaker.SpeakerEncoder`'s vectors


class EnrolmentError(WorkersError):
    """A voice that cannot be enrolled."""

    exit_code, http_status = 2, 422


def folder() -> Path:
    """The folder of the voices, a file each."""
    return user_data_path("undertone") / "voices"


def enroll(name: str, pieces: list[Array]) -> float:
    """Keep the voice of a speaker.

    pieces: utterances, [n] float32 at 16 kHz. Returns the seconds of speech that the voice rests on. Raises
    EnrolmentError for a name that cannot be a file's, too little speech, and more than one voice.
    """
    if not name or "/" in name or name.startswith("."):
        raise EnrolmentError(f"{name!r} is no name for a voice: letters, digits, blanks")
    seconds = sum(len(piece) for piece in pieces) / 16_000
    if seconds < MIN_SPEECH_S:
        raise EnrolmentError(f"{seconds:.1f} s of speech were found; a voice needs {MIN_SPEECH_S:.0f} s")
    from model.encoders.speaker import SpeakerEncoder  # to know a voice needs no PyTorch

    encoder = SpeakerEncoder()
    embeddings = np.stack([encoder(piece) for piece in pieces])
    lengths = np.array([len(piece) for piece in pieces])[:, None]
    mean = (embeddings * lengths).sum(0)
    mean /= np.linalg.norm(mean)
    alike = float((embeddings @ mean).min())
    if alike < 0.5:
        raise EnrolmentError("the recording has more than one voice; give one of this speaker alone")
    path = private_folder(folder()) / f"{name}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"encoder": "ge2e", "seconds": round(seconds, 1), "voice": mean.tolist()}))
    return seconds


def voices() -> dict[str, Array]:
    """All enrolled voices by name, [256] float32 of length 1 each. Raises EnrolmentError when a file holds none."""
    found = {}
    for path in sorted(folder().glob("*.json")):
        try:
            voice = np.array(json.loads(path.read_text())["voice"], np.float32)
            if voice.shape != (EMBEDDING_WIDTH,):
                raise ValueError(f"{voice.size} numbers, not {EMBEDDING_WIDTH}")
        except (ValueError, KeyError, TypeError) as error:
            raise EnrolmentError(f"{path}: not an enrolled voice ({error}); remove it and enroll anew") from None
        found[path.stem] = voice
    return found


def forget(name: str) -> None:
    """Remove a voice. Raises EnrolmentError when there is none of this name."""
    try:
        (folder() / f"{name}.json").unlink()
    except FileNotFoundError:
        raise EnrolmentError(f"no voice {name!r}; there are {', '.join(voices()) or 'none'}") from None
