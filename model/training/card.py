"""The model card beside the weights: Markdown with Hugging Face's metadata, from card.md.j2."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData

from model.encoders.text import LARGE
from model.metrics import NAMES
from model.training.teaching import Teaching

if TYPE_CHECKING:
    from model.fusion.network import FusionGCN

DATA = {
    "meld": (
        "MELD (Poria et al. 2019, GPL-3.0): acted dialogue of the television series Friends, a few scriptwriters' "
        "idea of how some Americans in their twenties and thirties spoke in the 1990s",
        "gpl-3.0",
    ),
    "emorynlp": (
        "EmoryNLP (Zahiri & Choi 2018, Apache-2.0): acted dialogue of the television series Friends, text only",
        "apache-2.0",
    ),
    "iemocap": (
        "IEMOCAP (Busso et al. 2008), released by USC under a signed form: these weights are for local research and "
        "may not be passed on",
        "other",
    ),
}
"""(description, licence) of the training data by label set."""


def model_card(model: FusionGCN, report: dict[str, Any], certain_accuracy: float) -> str:
    """The card of a trained network: data, licence, metrics, calibration, biases, prohibited uses.

    report: of `model.training.experiment.train_command`; certain_accuracy: of certain labels on dev, 0 … 1.
    """
    config = model.config
    data, licence = DATA.get(config.label_set, ("the trainer's own table", "other"))
    adapter = report["config"]["adapter"] or {}
    teachers = adapter.get("sentence_teachers", ())
    tuned = (
        "a LoRA adapter (in `adapter/`), tuned on the single sentences of GoEmotions (Demszky et al. 2020, Apache-2.0) "
        + (f"as the readers of {', '.join(teachers)} see them" if teachers else "as they are annotated")
        if adapter.get("graph")
        else "no adapter"
    )
    same_encoder = config.reader is not None and config.reader.encoder == config.text.encoder
    settings = {**asdict(replace(config, prosody=None)), "prosody": "in config.json" if config.prosody else None}
    card = ModelCard.from_template(
        ModelCardData(
            library_name="undertone",
            license=licence,
            language="en",
            pipeline_tag="text-classification",
            tags=["emotion-recognition-in-conversation"],
        ),
        template_path=str(Path(__file__).parent / "card.md.j2"),
        config=config,
        report=report,
        name=config.label_set + ("-large" if config.text.encoder == LARGE else ""),
        names=NAMES,
        data=data,
        tuned=tuned,
        teacher=Teaching(**report["config"]["teacher"]) if report["config"].get("teacher") else None,
        reader="the same encoder" if same_encoder else config.reader and config.reader.encoder,
        reader_weight=float(model.expert_weight[0]) if config.reader else 0.0,
        accuracy=round(100 * certain_accuracy),
        settings=json.dumps(settings, indent=1),
    )
    return f"{card}\n"
