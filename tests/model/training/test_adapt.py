"""LoRA tuning, with a tiny encoder made here: any Hugging Face folder can be tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.tables import TableError
from model.encoders.text import Line, Reader, TextConfig, TextEncoder, folder
from model.progress import Silent
from model.training.adapt import AdapterRecipe, Tuner
from model.training.examples import Examples, read_goemotions

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


def test_an_encoder_with_another_padding_and_without_segments(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MPNetConfig, MPNetModel

    words = ["<s>", "<pad>", "</s>", "<unk>", "[PAD]", "good", "bad", "a", "b", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_padding(pad_id=1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    MPNetModel(
        MPNetConfig(
            vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        )
    ).save_pretrained(tmp_path)
    text = TextConfig(encoder=str(tmp_path), layers=(1, 2), tokens=32, context=2, width=32)
    short, long = [Line("x", "good")], [Line("x", "bad bad bad"), Line("y", "good bad good bad")]
    inputs, pool = Reader(text)([short, long])
    assert inputs["input_ids"][0, -1] == 1 and not pool[0, -1]
    encode = TextEncoder(text)
    assert np.allclose(encode([short, long])[0], encode([short])[0], atol=1e-5)
    assert Tuner(text, RECIPE, 0).fit([moods(16, 1)], moods(16, 2), 1e-3, 8, tmp_path / "work", 0, Silent()) >= 0


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
