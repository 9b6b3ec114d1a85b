"""Known voices: `undertone enroll` keeps an embedding of each, and nothing of the recording.

A voice embedding is biometric data: it lies on this machine only, readable by its owner, until it is forgotten.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from platformdirs import user_data_path

from model.encoders.prosody import Array
from model.encoders.speaker import VOICE_ENCODER
from stream.block import RATE
from stream.private import private_folder
from stream.speech.speakers import SpeakerClusters, likeness
from workers.errors import WorkersError

MIN_SPEECH_S = 5.0  # seconds of speech


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
    seconds = sum(len(piece) for piece in pieces) / RATE
    if seconds < MIN_SPEECH_S:
        raise EnrolmentError(f"{seconds:.1f} s of speech were found; a voice needs {MIN_SPEECH_S:.0f} s")
    from model.encoders.speaker import SpeakerEncoder  # to know a voice needs no PyTorch

    encoder = SpeakerEncoder()
    embeddings = np.stack([encoder(piece) for piece in pieces])
    lengths = [len(piece) / RATE for piece in pieces]
    mean: Array = np.array(lengths, np.float32) @ embeddings
    mean /= np.linalg.norm(mean)
    alike = [likeness(each, length, mean, seconds) for each, length in zip(embeddings, lengths, strict=True)]
    if min(alike) < SpeakerClusters.SAME:
        raise EnrolmentError("the recording has more than one voice; give one of this speaker alone")
    path = private_folder(folder()) / f"{name}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"encoder": VOICE_ENCODER, "seconds": round(seconds, 1), "voice": mean.tolist()}))
    return seconds


def voices() -> dict[str, Array]:
    """The enrolled voices that can be told by name, [256] float32 of length 1 each. Raises EnrolmentError when a file
    holds none."""
    return {name: voice for name, (encoder, voice) in _read().items() if encoder == VOICE_ENCODER}


def outdated() -> list[str]:
    """Names of voices that another version's encoder enrolled: they cannot be compared, and must be enrolled anew.
    Raises EnrolmentError when a file holds no voice."""
    return [name for name, (encoder, _) in _read().items() if encoder != VOICE_ENCODER]


def _read() -> dict[str, tuple[str, Array]]:
    """Encoder and vector of each voice, by name."""
    found = {}
    for path in sorted(folder().glob("*.json")):
        try:
            kept = json.loads(path.read_text())
            voice = np.array(kept["voice"], np.float32)
            if voice.ndim != 1 or not voice.size:
                raise ValueError("its voice is no list of numbers")
            found[path.stem] = str(kept["encoder"]), voice
        except (ValueError, KeyError, TypeError) as error:
            raise EnrolmentError(f"{path}: not an enrolled voice ({error}); remove it and enroll anew") from None
    return found


def forget(name: str) -> None:
    """Remove a voice. Raises EnrolmentError when there is none of this name."""
    try:
        (folder() / f"{name}.json").unlink()
    except FileNotFoundError:
        raise EnrolmentError(f"no voice {name!r}; there are {', '.join(_read()) or 'none'}") from None
