from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from model.encoders import text
from model.encoders.manifest import manifest
from model.encoders.text import BUNDLED, Line, Reader, TextConfig, TextEncoder, TextEncoderError, in_context

CONTEXT = TextConfig(context=3, tokens=32)


def alone(*texts: str) -> list[list[Line]]:
    return [[Line("a", text)] for text in texts]


def test_embeddings_do_not_depend_on_their_batch_and_tell_meanings_apart() -> None:
    config = TextConfig()
    encoder = TextEncoder(config)
    texts = alone("I am so happy for you!", "I'm very glad.", "The train leaves at nine.", "word " * 400)
    together = encoder(texts)
    assert together.shape == (4, config.embedding_width) and together.dtype == np.float32
    assert np.allclose(together[0], encoder(texts[:1])[0], atol=1e-4)
    like = together[:, -384:] / np.linalg.norm(together[:, -384:], axis=1, keepdims=True)
    assert like[0] @ like[1] > like[0] @ like[2] + 0.2


def test_the_last_column_tells_who_wrote_the_words() -> None:
    told, untold = (TextConfig(layers=(2,), recognized=recognized) for recognized in (True, False))
    lines = [[Line("a", "Oh my God.", recognized=True)], [Line("a", "I know.", True), Line("b", "Oh my God.")]]
    embedding = TextEncoder(told)(lines)
    assert embedding.shape == (2, told.embedding_width) and embedding[:, -1].tolist() == [1, 0]
    assert np.array_equal(embedding[:, :-1], TextEncoder(untold)(lines))


def test_speakers_are_letters_in_order_of_recency_and_the_silent_are_left_out() -> None:
    lines = [
        Line("Ross", "Hi."),
        Line("Joey", " "),
        Line("Rachel", "Hello!"),
        Line("Ross", "What?"),
        Line("Rachel", "No."),
    ]
    assert in_context(lines) == ("b: Hi. a: Hello! b: What?", "No.")


def test_the_past_is_cut_at_its_far_end_and_the_present_at_its_end() -> None:
    read = Reader(CONTEXT)
    past = [Line("x", f"number {n} " * 4) for n in range(10)]
    inputs, pool = read([[*past, Line("y", "so it is")], [Line("y", "word " * 100)], [Line("y", "")]])
    assert inputs["input_ids"].shape[1] <= CONTEXT.tokens
    text = read._alone.decode(inputs["input_ids"][0], skip_special_tokens=False)
    assert "number 9" in text and "number 6" not in text and "[SEP] so it is [SEP]" in text
    assert pool.sum(1).tolist() == [3, CONTEXT.tokens // 2, 1]


def test_a_context_changes_the_embedding_within_its_reach_only() -> None:
    encoder = TextEncoder(CONTEXT)
    far, near = Line("b", "I lost everything."), Line("b", "We won!")
    filler, present = [Line("a", "Well."), Line("b", "Yes."), Line("a", "Hm.")], Line("b", "Really?")
    one, other = encoder([[far, *filler, present], [near, *filler, present]])
    assert np.allclose(one, other, atol=1e-5), "the fourth utterance back is out of reach"
    one, other = encoder([[far, present], [near, present]])
    assert not np.allclose(one, other, atol=1e-2)


def test_the_default_encoder_is_looked_for_in_folders_then_in_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(text, "unpacked", lambda model: None)
    with pytest.raises(TextEncoderError, match=f"undertone models pull {BUNDLED}") as refused:
        text.folder()
    assert "\n" not in str(refused.value) and text.folder("someone/else") == "someone/else"
    monkeypatch.undo()
    here = Path(text.folder())
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path / "models"))
    copy = tmp_path / "models" / BUNDLED
    copy.mkdir(parents=True)
    for file in manifest()[BUNDLED].files:
        shutil.copyfile(here / file.name, copy / file.name)
    assert text.folder() == str(copy)
    text.checked.cache_clear()
    assert text.checked() == str(copy)
    (copy / "vocab.txt").write_bytes(bytes((copy / "vocab.txt").stat().st_size))
    text.checked.cache_clear()
    with pytest.raises(TextEncoderError, match=r"vocab\.txt: another file"):
        text.checked()
    text.checked.cache_clear()
