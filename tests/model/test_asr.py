from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.asr import AsrError, believable, choose, find_whisper, load, transcribe_together
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
    words = (
        asr([np.concatenate([digit(data, value) for value in spoken])], "en")[0].text.lower().replace(",", "").split()
    )
    assert sum(word.strip(".") == DIGITS[value] for word, value in zip(words, spoken, strict=False)) >= 3
    assert asr([np.zeros(32_000, np.float32)], "en")[0].text == ""


@pytest.mark.data
def test_pocketsphinx_hears_clear_speech(data: Path) -> None:
    """The first words of a clip of read speech; pocketsphinx errs, but not everywhere."""
    samples = np.concatenate([b.samples for b in FileSource(data / "librispeech" / "jfk.flac")], 1)[0]
    words = set(load("pocketsphinx", None)([samples], None)[0].text.split())
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
    assert asr(clips[::-1], None) == asr(clips, None)[::-1]


@pytest.mark.data
def test_a_batch_gives_each_utterance_its_own_words(data: Path, models: Path) -> None:
    """Utterances of several sessions go through Whisper together; words keep their owner and their times."""
    asr = load(*choose("whisper", str(models / "whisper_digits")))
    clips = [digit(data, value) for value in (7, 3, 5, 9, 1)]
    together = asr(clips, "en")
    alone = [asr([clip], "en")[0] for clip in clips]
    assert [result.text for result in together] == [result.text for result in alone]
    assert (
        sum(result.text.lower().strip(".") == DIGITS[v] for result, v in zip(together, (7, 3, 5, 9, 1), strict=True))
        >= 4
    )
    for result, clip in zip(together, clips, strict=True):
        for word in result.words:
            assert 0 <= word.start <= word.end <= len(clip) / 16_000 + 0.1 and 0 <= word.probability <= 1
    mixed = [(clips[0], "en"), (clips[1], None), (clips[2], "en")]
    assert [r.text for r in transcribe_together(asr, mixed)] == [r.text for r in alone[:3]]


@pytest.mark.data
@pytest.mark.parametrize("kind", ["whisper", "pocketsphinx"])
def test_silence_noise_and_music_give_no_words(models: Path, kind: str) -> None:
    asr = load(*choose(kind, str(models / "whisper_digits")))
    rng, time = np.random.default_rng(0), np.arange(5 * 16_000) / 16_000
    music = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330)) * np.exp(-6 * (time % 0.5))
    wordless = [
        np.zeros(16_000, np.float32),
        np.zeros(0, np.float32),
        rng.normal(0, 0.1, 5 * 16_000).astype(np.float32),
        (0.1 * music).astype(np.float32),
    ]
    assert [result.text for result in asr(wordless, "en")] == [""] * len(wordless)


def test_a_recognizer_that_stammers_is_not_believed() -> None:
    assert believable("and so my fellow americans ask not what your country can do for you", 5.0)
    assert believable("no no no no", 1.5)
    assert not believable("thank you " * 8, 10.0)
    assert not believable("la " * 12, 10.0)
    assert not believable("far too many words for so short a time cannot have been said at all", 0.5)
    assert believable("", 0.2)
