"""Sources of words in measured sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.session.settings import Recognizer

NO_PARTIALS = ", no partials"  # suffix of the name of a source without interim results
ONE_MICROPHONE = ", one microphone"  # suffix where all speakers are mixed into one channel
SOURCES = ("transcript", "none", "whisper")


@dataclass(frozen=True)
class Words:
    """One source of words."""

    name: str
    """transcript, none, or the name of a faster-whisper model."""
    asr: Recognizer
    """Value of `workers.session.settings.SessionSettings.asr`."""
    model: str | None = None
    """Name or folder of a model, as `model.encoders.asr.locate` takes it."""
    partials: bool = True
    """Interim words and labels are published during an utterance."""

    @property
    def given(self) -> bool:
        return self.name == "transcript"


def words_by(sources: Sequence[str], recording: Path) -> list[Words]:
    """A `Words` for each of `SOURCES` in `sources`, in order; "whisper" gives one for each local faster-whisper model.

    Raises FileNotFoundError when "transcript" is requested and there is no STM beside the recording.
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
