"""The text encoder by ONNX Runtime against PyTorch, and the graphs that are shipped against their export."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.encoders import text, text_graph
from model.encoders.text import ContextReader, Line, TextEncoder
from model.fusion.checkpoint import load_config, shipped, tuned_of
from model.training.export_text import MODELS, export_text
from tests.support.small_corpus import random_reader

LINES = [
    Line("ab"[n % 2], words) for n, words in enumerate(["So it is.", "Really? " * 40, "", "I lost it all.", "No!"])
]
BATCH = [LINES[: n + 1] for n in range(len(LINES))]


def by_torch(config: text.TextConfig, adapter: Path | None) -> np.ndarray:
    run = text._by_torch(text.load_encoder(config.encoder), adapter, config, "cpu")
    return run(*text.Reader(config)(BATCH))


@pytest.mark.parametrize("name", shipped())
def test_the_graph_is_the_model_with_its_adapter_merged(name: str) -> None:
    config, tuned = load_config(name), tuned_of(name)
    for chosen, adapter in ((config.text, tuned.adapter), (config.text, None), (config.reader, tuned.reader)):
        if chosen is not None:
            chosen = replace(chosen, recognized=False)
            wanted = by_torch(chosen, adapter)
            assert np.abs(TextEncoder(chosen, adapter)(BATCH) - wanted).max() < 1e-3


def test_integers_stay_near_and_do_not_depend_on_their_company(tmp_path: Path) -> None:
    config = text.TextConfig(context=12, tokens=128)
    reader = random_reader(tmp_path, config)
    exact, near = (ContextReader(config, reader, integers) for integers in (False, True))
    together = near(BATCH)
    assert np.abs(together - exact(BATCH)).max() < 0.15
    for n, lines in enumerate(BATCH):
        np.testing.assert_allclose(together[n], near([lines])[0], atol=1e-6)


def test_another_kind_of_adapter_is_refused(tmp_path: Path) -> None:
    adapter = tuned_of("meld").adapter
    assert adapter is not None
    shutil.copytree(adapter, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dora": True}))
    with pytest.raises(ValueError, match="not a plain LoRA"):
        TextEncoder(load_config("meld").text, tmp_path / "adapter")


@pytest.mark.integration
def test_the_shipped_graphs_are_what_the_export_makes(tmp_path: Path) -> None:
    for architecture in MODELS:
        for made in export_text(tmp_path, architecture):
            assert made.read_bytes() == (text_graph.FOLDER / made.name).read_bytes()


@pytest.mark.integration
def test_encoders_load_neither_pytorch_nor_transformers() -> None:
    code = (
        "import sys; from workers.inference.encoders import Encoders; Encoders('meld');"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
