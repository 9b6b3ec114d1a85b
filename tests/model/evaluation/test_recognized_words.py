"""The study of recognized words: its synthesizer, its conditions, and the words that it keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.data.tables import Dialogue, Row
from model.encoders.transcription import RATE, Transcription
from model.evaluation import recognized_words
from model.evaluation.lab import Lab
from model.evaluation.recognized_words import CONDITIONS, SynthesizerMissing, recognized, say
from model.progress import Silent

DIALOGUES = [
    Dialogue("1", [Row("Ann", text, "joy", "positive", None) for text in ("One two.", "Three?")]),
    Dialogue("2", [Row("Ben", "Four!", "anger", "negative", None)]),
]


def test_without_a_synthesizer_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SynthesizerMissing, match="apt-get install espeak-ng"):
        say("Hello", "Ann")


def test_lines_are_recognized_in_order_and_as_the_condition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    tone = np.sin(np.arange(RATE) / 3).astype(np.float32)
    heard: list[np.ndarray] = []

    def load(model: str):
        def asr(utterances, language):
            heard.extend(utterances)
            return [Transcription(f"{model} {language} {len(heard)}")]

        return asr

    monkeypatch.setattr(recognized_words, "say", lambda text, speaker: tone)
    monkeypatch.setattr(recognized_words, "load", load)
    assert recognized(DIALOGUES, "base", None, Silent()) == ["base en 1", "base en 2", "base en 3"]
    assert all(samples is tone for samples in heard)
    recognized(DIALOGUES, "base", CONDITIONS["telephone, noise 15 dB"], Silent())
    assert not any(np.array_equal(samples, tone) for samples in heard[3:])


def test_words_that_were_recognized_once_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "undertone" / "recognized-meld-base-as said.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps(["un deux", "trois", "quatre"]))
    lab = Lab(tmp_path, "meld", tmp_path, 1, Silent())
    lab.__dict__["pair"] = (None, [], DIALOGUES)
    words = recognized_words.as_recognized(lab, "base", "as said")
    found = recognized_words.in_place(DIALOGUES, words, recognized=True)
    assert [[row.text for row in dialogue.rows] for dialogue in found] == [["un deux", "trois"], ["quatre"]]
    assert [row.speaker for dialogue in found for row in dialogue.rows] == ["Ann", "Ann", "Ben"]
    assert all(row.recognized for dialogue in found for row in dialogue.rows)
