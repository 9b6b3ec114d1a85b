"""Where the words of a measured session come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.session.settings import Recognizer

SILENT = ", no partials"  # behind the name of a way that tells nothing while somebody talks
SOURCES = ("transcript", "none", "whisper")


@dataclass(frozen=True)
class Words:
    """One way to come by them."""

    name: str
    """transcript, none, or the name of a faster-whisper model."""
    asr: Recognizer
    """As `workers.session.settings.SessionSettings` has it."""
    model: str | None = None
    """Name or folder, as `model.encoders.asr.locate` takes it."""
    partials: bool = True
    """Words and labels are told while somebody talks."""

    @property
    def given(self) -> bool:
        return self.name == "transcript"


def words_by(sources: Sequence[str], recording: Path) -> list[Words]:
    """One for each of `SOURCES` asked for, in order; "whisper" gives each faster-whisper model that is here.

    Raises FileNotFoundError when the recording has no transcript (.stm) beside it and one is asked for.
    """
    from workers.bench.accuracy.asr import here

    found = []
    for source in sources:
        if source == "whisper":
            found += [Words(model.name, "whisper", model.name) for model in here()]
        elif source == "transcript":
            recording.with_suffix(".stm").stat()
            found.append(Words(source, "none"))
        else:
            found.append(Words(source, "none"))
    return found
