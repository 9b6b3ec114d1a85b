"""LoRA tuning, with a tiny encoder made here: any Hugging Face folder can be tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.tables import TableError
from model.encoders.text import Line, TextConfig, TextEncoder, folder
from model.progress import Silent
from model.training.adapt import AdapterRecipe, Examples, Tuner, read_goemotions

RECIPE = AdapterRecipe(rank=4)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextConfig:
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    tiny = tmp_path_factory.mktemp("encoder")
    tokenizer = AutoTokenizer.from_pretrained(folder())
    tokenizer.save_pretrained(tiny)
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        )
    ).save_pretrained(tiny)
    return TextConfig(encoder=str(tiny), layers=(1, 2), tokens=32, context=2, width=32)


def moods(n: int, seed: int) -> Examples:
    """The mood is in what the *other* one said before: to be learnt only in context."""
    rng = np.random.default_rng(seed)
    mood = rng.integers(2, size=n)
    said = [["bad terrible", "good wonderful"][m] for m in mood]
    lines = [[Line("x", said[i]), Line("y", "I see.")] for i in range(n)]
    return Examples(lines, np.eye(2, dtype=np.float32)[mood], mood)


def tune(text: TextConfig, work: Path, epochs: int, stop: int | None = None) -> float:
    class Stops(Silent):
        def curve(self, name: str, values: dict[str, float], step: int) -> None:
            if step == stop:
                raise KeyboardInterrupt

    training = [moods(300, 1)] * epochs
    return Tuner(text, RECIPE, 0).fit(training, moods(60, 9), 5e-3, 16, work, 0, Stops())


def test_it_learns_from_the_context_and_serves_what_it_learnt(text: TextConfig, tmp_path: Path) -> None:
    assert tune(text, tmp_path, 4) > 0.9
    adapter = tmp_path / "best"
    assert (adapter / "adapter_model.safetensors").stat().st_size < 100_000
    assert not list(adapter.glob("*.bin")), "safetensors alone"
    encoder, frozen = TextEncoder(text, adapter), TextEncoder(text)
    lines = moods(20, 3).lines
    assert encoder(lines).shape == (20, text.embedding_width)
    assert not np.allclose(encoder(lines), frozen(lines), atol=1e-2)
    tuner = Tuner(text, RECIPE, 0)
    tuner.load(adapter)
    tuner._model.eval()
    with torch.inference_mode():
        assert np.allclose(tuner._embed(lines).numpy(), encoder(lines), atol=0.1), "bfloat16 against float32"


def test_an_interrupted_tuning_ends_where_an_undisturbed_one_does(text: TextConfig, tmp_path: Path) -> None:
    whole = tune(text, tmp_path / "whole", 3)
    with pytest.raises(KeyboardInterrupt):
        tune(text, tmp_path / "broken", 3, stop=2)
    assert tune(text, tmp_path / "broken", 3) == pytest.approx(whole)
    weights = [(tmp_path / run / "best" / "adapter_model.safetensors").read_bytes() for run in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_goemotions_is_read_and_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text("What a day!\t3,6\tabc\nHm.\t4\tdef\n")
    examples = read_goemotions(file)
    assert examples.target[0, 3] == examples.target[0, 6] == 0.5 and examples.target[1, 4] == 1
    file.write_text("no labels here\n")
    with pytest.raises(TableError, match="train.tsv"):
        read_goemotions(file)
    with pytest.raises(TableError, match="absent"):
        read_goemotions(tmp_path / "absent.tsv")
