"""Where the words of a measured session come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("transcript", "none", "pocketsphinx", "whisper")


@dataclass(frozen=True)
class Words:
    """One way to come by them."""

    name: str
    """transcript, none, pocketsphinx, or the folder's name of a faster-whisper model."""
    asr: str
    """As `workers.planning.Wishes` has it."""
    model: str | None = None
    """Folder of a faster-whisper model."""

    @property
    def given(self) -> bool:
        return self.name == "transcript"


def words_by(sources: Sequence[str], recording: Path) -> list[Words]:
    """One for each of `SOURCES` asked for, in order; "whisper" gives each faster-whisper model that is here.

    Raises FileNotFoundError when the recording has no transcript (.stm) beside it and one is asked for.
    """
    from workers.bench.asr import known_whispers

    found = []
    for source in sources:
        if source == "whisper":
            found += [Words(folder.name, "whisper", str(folder)) for folder in known_whispers()]
        elif source == "transcript":
            recording.with_suffix(".stm").stat()
            found.append(Words(source, "none"))
        else:
            found.append(Words(source, source))
    return found
