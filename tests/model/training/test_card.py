"""The model card: Hugging Face reads its metadata, and the text has the figures of the report."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

from model.fusion.checkpoint import load_checkpoint, resolve
from model.training.card import model_card
from model.training.train import CERTAIN_ACCURACY


@pytest.mark.parametrize("name, licence", [("meld", "gpl-3.0"), ("meld-large", "gpl-3.0"), ("emorynlp", "apache-2.0")])
def test_a_card_has_valid_metadata_and_the_figures(name: str, licence: str) -> None:
    report = json.loads((resolve(name) / "metrics.json").read_text())
    text = model_card(load_checkpoint(name), report, CERTAIN_ACCURACY)
    shipped = (resolve(name) / "README.md").read_text()
    for card in (ModelCard(text), ModelCard(shipped)):
        assert card.data.license == licence and card.data.language == "en"
        assert card.data.library_name == "undertone" and card.data.tags == ["emotion-recognition-in-conversation"]
    for line in shipped.splitlines():
        if line.startswith("|"):
            assert line in text, "the tables of figures are the same"
    assert "{{" not in text and "{%" not in text
    share = report["config"]["recipe"].get("rewritten_share", 0.0)  # there is none in a report of before
    told = f"Of the training dialogues {100 * share:.0f} % are drawn with the punctuation of one" in text
    assert told is bool(share)
    taught = report["config"].get("teacher") is not None
    assert ("what\nthe readers of meld-large say" in text) is taught
    assert ("as the readers of meld-large see them" in text) is taught
    assert f"below a probability of {report['certain_from']}: those above it are right in 70 % on dev" in text
