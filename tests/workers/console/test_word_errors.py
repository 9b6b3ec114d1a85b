from __future__ import annotations

from pathlib import Path

import pytest

from model.metrics import plain_words, word_error_rate
from stream.events import UtteranceHeard
from stream.speech.turns import AnnotationError
from tests.support.events import EMOTION
from workers.console.word_errors import WordScore


def heard(number: int, start: float, text: str | None, speaker: str = "Ann") -> UtteranceHeard:
    return UtteranceHeard(
        id=f"s:{number}",
        session="s",
        utterance=number,
        speaker=speaker,
        audio_start=start,
        audio_end=start + 1,
        text=text,
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "call.stm"
    path.write_text("call 2 Ben 2 3 Fine, thanks.\ncall 1 Ann 0 1 How are you?\ncall 1 Ann 4 5 I'm glad!\n")
    return path


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hi Jonas, thanks for coming.", "hi jonas thanks for coming"),
        ("Don’t -- you know… don't!", "don't you know don't"),
        ("[laughter] So (coughs) <unk> what?", "so what"),
        ("Schöne Grüße", "schöne grüße"),
        ("...", ""),
    ],
)
def test_words_are_compared_without_case_punctuation_and_remarks(text: str, plain: str) -> None:
    assert plain_words(text) == plain


def test_a_rate_counts_by_words_said() -> None:
    assert word_error_rate(["How are you?"], ["how are you"]) == 0
    assert word_error_rate(["how are you"], [""]) == 1
    assert word_error_rate(["how are you"], ["who are you there"]) == pytest.approx(2 / 3)


def test_utterances_of_all_speakers_are_scored_in_order_of_their_start(script: Path) -> None:
    score = WordScore(script, "call")
    score.event(heard(1, 2.1, "fine thanks", "Ben"))
    score.event(heard(0, 0.1, "How are you"))
    score.event(heard(0, 0.1, "How are you"))  # a process that went on told it again
    score.event(EMOTION)
    score.event(EMOTION.model_copy(update={"revision": 1, "final": True, "trigger": "context"}))
    score.event(EMOTION.model_copy(update={"utterance": 4, "trigger": "interval"}))
    assert score.line(30.7) == "WER 28.6 % against call.stm (7 words), 1 labels, 31 s"
    score.event(heard(2, 4, "I'm glad."))
    assert score.line(1).startswith("WER 0.0 % ")


def test_who_hears_nothing_has_every_word_wrong(script: Path) -> None:
    score = WordScore(script, "call")
    score.event(heard(0, 0, None))
    assert score.line(1) == "WER 100.0 % against call.stm (7 words), 0 labels, 1 s"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.stm", None, "no such file"),
        ("empty.stm", b"", "describes no recording"),
        ("empty.vtt", b"", "not a caption file"),
        ("bytes.stm", b"\xff\xfe\x00", "not a UTF-8 text file"),
        ("sounds.csv", b"start,end,text\n0,1,[laughter]\n", "holds no words"),
        ("script.pdf", b"", "must be one of"),
    ],
)
def test_a_script_without_words_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=message):
        WordScore(tmp_path / name, "call")
