from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.encoders import packaged
from model.encoders.asr import AsrError, Guarded, check_name, load, locate, transcribe_together
from model.encoders.transcription import believable
from model.encoders.whisper import FULL_WINDOW_FRAMES, MAX_PIECE_SAMPLES, RATE, Whisper, is_multilingual, window_of
from model.metrics import word_error_rate
from stream.sources.file import FileSource, read_audio

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digit(data: Path, value: int) -> np.ndarray:
    path = sorted((data / "digits").glob(f"{value}_*.wav"))[0]
    samples = np.concatenate([block.samples for block in FileSource(path)], 1)[0]
    return np.pad(samples, (1600, 1600))


@pytest.fixture(scope="module")
def whisper(base: str) -> Whisper:
    found = locate(base)
    assert found is not None
    return Whisper(found.folder)


@pytest.fixture(scope="module")
def clips(demo_audio: np.ndarray) -> list[np.ndarray]:
    """The demo's first four lines, by two people."""
    spans = ((0, 0.4, 4.7), (1, 4.9, 8.4), (0, 8.7, 12.3), (1, 12.4, 14.8))
    return [demo_audio[channel, round(start * RATE) : round(end * RATE)] for channel, start, end in spans]


@pytest.mark.data
def test_a_model_of_ten_words_hears_them(data: Path, models: Path) -> None:
    asr = load(str(models / "whisper_digits"))
    spoken = [3, 1, 7, 9]
    words = asr([np.concatenate([digit(data, value) for value in spoken])], "en")[0].text.lower().split()
    assert sum(word.strip(".,") == DIGITS[value] for word, value in zip(words, spoken, strict=False)) >= 3
    assert asr([np.zeros(32_000, np.float32)], "en")[0].text == ""


@pytest.mark.data
def test_read_speech_is_heard(data: Path, tiny: str) -> None:
    heard = load(tiny)([read_audio(data / "librispeech" / "jfk.flac")[0]], "en")[0]
    assert "ask not what your country can do for you" in heard.text.lower()
    assert heard.languages is None, "a model of one language cannot tell"


def test_each_utterance_of_a_batch_has_its_own_words(clips: list[np.ndarray], whisper: Whisper) -> None:
    """Utterances of several sessions go through Whisper together; words keep their owner and their times."""
    together = whisper(clips, "en")
    alone = [whisper([clip], "en")[0] for clip in clips]
    assert [result.text for result in together] == [result.text for result in alone]
    assert "Jonas" in together[0].text and "no problem" in together[1].text and "wonderful news" in together[2].text
    for result, clip in zip(together, clips, strict=True):
        assert result.language == "en"
        assert " ".join(word.text for word in result.words) == result.text
        starts = [word.start for word in result.words]
        assert starts == sorted(starts)
        for word in result.words:
            assert 0 <= word.start <= word.end <= len(clip) / RATE + 0.1 and 0 <= word.probability <= 1
    mixed = [(clips[0], "en"), (clips[1], None), (clips[2], "en")]
    assert [r.text for r in transcribe_together(whisper, mixed)] == [r.text for r in alone[:3]]


def test_a_short_window_hears_what_the_full_one_hears(clips: list[np.ndarray], base: str, whisper: Whisper) -> None:
    found = locate(base)
    assert found is not None
    full = Whisper(found.folder, smallest=FULL_WINDOW_FRAMES)(clips, "en")
    short = whisper(clips, "en")
    assert word_error_rate([each.text for each in full], [each.text for each in short]) < 0.15
    for one, other in zip(full, short, strict=True):  # and at the same times
        times = {word.text.lower().strip(",.?!"): word.start for word in one.words}
        near = [abs(times[t] - w.start) for w in other.words if (t := w.text.lower().strip(",.?!")) in times]
        assert np.median(near) < 0.1


def test_windows_grow_with_the_utterance() -> None:
    assert [window_of(round(seconds * RATE), 1000) for seconds in (0, 3, 10, 10.1, 15.2, 29, 30, 40)] == [
        1000, 1000, 1000, 1250, 1750, 3000, 3000, 3000,
    ]  # fmt: skip


def test_a_decoder_gone_astray_hears_once_more_on_the_full_window(
    clips: list[np.ndarray], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second of speech at a window of its own length; the first try is taken for one that runs in a circle."""
    found = locate(base)
    assert found is not None
    whisper, windows = Whisper(found.folder, smallest=250), []
    decode = whisper._decode_batch

    def watched(mel: np.ndarray, frames: list[int], language: str | None) -> list:
        windows.append(mel.shape[2])
        return decode(mel, frames, language)

    monkeypatch.setattr(whisper, "_decode_batch", watched)
    monkeypatch.setattr("model.encoders.whisper.MAX_TOKENS_PER_S", -4)  # no short window has room for an end
    heard = whisper([clips[1]], "en")[0]
    assert windows == [500, FULL_WINDOW_FRAMES]
    assert "no problem at all" in heard.text


def test_an_utterance_of_more_than_a_window_is_heard_whole(whisper: Whisper, demo_audio: np.ndarray) -> None:
    samples = np.concatenate([demo_audio.sum(0)[: MAX_PIECE_SAMPLES + 5 * RATE]])
    heard = whisper([samples], "en")[0]
    assert heard.words[0].start < 2 and MAX_PIECE_SAMPLES / RATE < heard.words[-1].end <= len(samples) / RATE
    assert "find the way" in heard.text


def test_a_language_that_no_model_knows_is_refused(whisper: Whisper) -> None:
    with pytest.raises(ValueError, match="does not know the language 'xx'"):
        whisper([np.zeros(RATE, np.float32)], "xx")


def test_silence_noise_and_music_give_no_words(whisper: Whisper) -> None:
    asr = Guarded(whisper)
    rng, time = np.random.default_rng(0), np.arange(5 * 16_000) / 16_000
    music = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330)) * np.exp(-6 * (time % 0.5))
    wordless = [
        np.zeros(16_000, np.float32),
        np.zeros(0, np.float32),
        rng.normal(0, 0.1, 5 * 16_000).astype(np.float32),
        (0.1 * music).astype(np.float32),
    ]
    assert [result.text for result in asr(wordless, "en")] == [""] * len(wordless)
    assert len(whisper(wordless, None)) == len(wordless), "asked without the guard, it survives too"


def test_a_recognizer_that_stammers_is_not_believed() -> None:
    assert believable("and so my fellow americans ask not what your country can do for you", 5.0)
    assert believable("no no no no", 1.5)
    assert not believable("thank you " * 8, 10.0)
    assert not believable("la " * 12, 10.0)
    assert not believable("far too many words for so short a time cannot have been said at all", 0.5)
    assert believable("", 0.2)


def model_folder(folder: Path, size: str, words: int = 51_865) -> Path:
    folder = folder / f"faster-whisper-{size}"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"")
    (folder / "vocabulary.txt").write_text("x\n" * words)
    return folder


def test_where_a_model_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("model.encoders.asr.unpacked", lambda model: None)
    assert locate() is None and locate("small") is None
    tiny = model_folder(tmp_path / "models", "tiny")
    found = locate()
    assert found is not None and (found.name, found.folder, found.multilingual) == ("tiny", str(tiny), True)
    small = model_folder(tmp_path / "models", "small.en", 51_864)
    found = locate()
    assert found is not None and (found.folder, found.multilingual) == (str(small), False)
    huge = model_folder(tmp_path / "models", "large-v3")
    assert locate() == found, "what does not keep up without a GPU is taken by its name alone"
    assert str(locate("large-v3")) == "faster-whisper large-v3" and str(locate(str(huge))) == "faster-whisper large-v3"
    model_folder(tmp_path / "models", "base")
    assert locate() == found, "that is not the base of the manifest: its files have other sizes"
    with pytest.raises(AsrError, match=r"no model\.bin"):
        locate(str(tmp_path))
    with pytest.raises(AsrError, match="undertone models pull medium"):
        load("medium")


def test_a_name_that_can_be_no_models_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path / "models"))
    (tmp_path / "empty").mkdir()
    own = model_folder(tmp_path / "models", "own")
    for name in (None, "base", "large-v2", "distil-small.en", "own", str(own), "Systran/faster-whisper-tiny"):
        check_name(name)
    for name in ("huge", "", "bases", "./nowhere", "/no/where", "a/b/c", "~/model", "large v3"):
        for look in (check_name, locate):
            with pytest.raises(
                AsrError, match=re.escape(f"no Whisper model {name!r}: neither a size (tiny.en, tiny, ")
            ):
                look(name)
    with pytest.raises(AsrError, match=r"no model\.bin"):
        check_name(str(tmp_path / "empty"))


def test_packages_come_after_folders_and_are_named(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("UNDERTONE_MODELS", raising=False)
    if packaged._installed(packaged_files()[0]) is None:
        if os.environ.get("CI"):
            pytest.fail("the packages of requirements-whisper.lock are not installed, and CI has them")
        pytest.skip("the packages are not installed: this machine has the model from elsewhere")
    found = locate()
    assert found is not None and found.name == "base" and found.origin == "Python packages" and found.multilingual
    assert Path(found.folder) == tmp_path / "undertone" / "models" / "faster-whisper-base"
    assert is_multilingual(found.folder)


def packaged_files() -> tuple:
    from model.encoders.manifest import manifest

    return manifest()["faster-whisper-base"].files


def test_a_model_that_was_exchanged_since_it_came_is_not_loaded(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = locate(base)
    assert found is not None
    folder = tmp_path / "faster-whisper-base"
    shutil.copytree(found.folder, folder)
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path))
    load(base)
    kept = (folder / "model.bin").stat()
    with (folder / "model.bin").open("r+b") as file:
        file.seek(kept.st_size // 2)
        file.write(b"another")
    os.utime(folder / "model.bin", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    with pytest.raises(AsrError, match=r"model\.bin: another file .* undertone models pull base"):
        load(base)
