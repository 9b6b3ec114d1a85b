from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.asr import AsrError, choose, find_whisper, load
from stream.media import FileSource

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digit(data: Path, value: int) -> np.ndarray:
    path = sorted((data / "digits").glob(f"{value}_*.wav"))[0]
    samples = np.concatenate([block.samples for block in FileSource(path)], 1)[0]
    return np.pad(samples, (1600, 1600))


@pytest.mark.data
def test_whisper_hears_digits_and_keeps_quiet_in_silence(data: Path, models: Path) -> None:
    asr = load(*choose("whisper", str(models / "whisper_digits")))
    spoken = [3, 1, 7, 9]
    words = asr(np.concatenate([digit(data, value) for value in spoken])).lower().replace(",", "").split()
    assert sum(word.strip(".") == DIGITS[value] for word, value in zip(words, spoken, strict=False)) >= 3
    assert asr(np.zeros(32_000, np.float32)) == ""


@pytest.mark.data
def test_pocketsphinx_hears_clear_speech(data: Path) -> None:
    """The first words of a clip of read speech; pocketsphinx errs, but not everywhere."""
    samples = np.concatenate([b.samples for b in FileSource(data / "librispeech" / "jfk.flac")], 1)[0]
    words = set(load("pocketsphinx", None)(samples).split())
    assert len(words & {"and", "so", "my", "fellow", "americans", "ask", "not", "what", "your", "country", "can"}) >= 5


def test_the_order_of_recognizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path))
    assert choose("none", None) == (None, None)
    assert choose("auto", None) == ("pocketsphinx", None)
    folder = tmp_path / "faster-whisper-tiny"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"")
    assert choose("auto", None) == ("whisper", str(folder))
    assert find_whisper(str(folder)) == str(folder)
    with pytest.raises(AsrError, match=r"no model\.bin"):
        find_whisper(str(tmp_path))


@pytest.mark.data
def test_no_utterance_colours_the_next(data: Path) -> None:
    """The same words whatever was recognized before: sessions share a recognizer."""
    paths = sorted((data / "librispeech").glob("*-0000.flac"))[:3]
    clips = [np.concatenate([block.samples for block in FileSource(path)], 1)[0, : 4 * 16_000] for path in paths]
    asr = load("pocketsphinx", None)
    forwards = [asr(clip) for clip in clips]
    assert [asr(clip) for clip in reversed(clips)] == forwards[::-1]
