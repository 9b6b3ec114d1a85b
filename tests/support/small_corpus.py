"""A small labelled table, and untrained checkpoints for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.data.tables import Dialogue, Row, write_table
from model.encoders.prosody import FEATURE_WIDTH, ProsodyPrior
from model.encoders.text import TextConfig
from model.fusion.checkpoint import save_checkpoint
from model.fusion.config import FusionConfig
from model.fusion.network import FusionGCN
from model.labels import LABEL_SETS, SENTIMENTS
from model.training.adapt import AdapterRecipe, Tuner

EMOTIONS = LABEL_SETS["meld"].emotions
CONFIG = FusionConfig(
    "meld",
    EMOTIONS,
    SENTIMENTS,
    ("text", "audio"),
    (TextConfig().embedding_width, FEATURE_WIDTH),
    hidden=16,
    window=8,
    prosody=ProsodyPrior((60.0,) * 7, (10.0,) * 7, (1.0,) * 7),
)


def small_table(folder: Path) -> Path:
    """folder/dev.csv: six dialogues of seven utterances with random words, labels and prosody."""
    rng = np.random.default_rng(0)

    def row(n: int) -> Row:
        words = " ".join(rng.choice(["well", "no", "great", "never", "why"], 4))
        prosody = rng.normal(60, 10, 7).astype(np.float32) if n % 5 else None
        return Row("AB"[n % 2], words, str(rng.choice(EMOTIONS)), str(rng.choice(SENTIMENTS)), prosody)

    write_table(folder / "dev.csv", "dev", [Dialogue(str(d), [row(n) for n in range(7)]) for d in range(6)])
    return folder / "dev.csv"


def random_reader(folder: Path, text: TextConfig) -> Path:
    """folder: a reader of MELD's emotions whose adapter and head have random weights."""
    torch.manual_seed(0)
    tuner = Tuner(text, AdapterRecipe(rank=4), 0)
    for name, weights in tuner._model.named_parameters():
        if "lora_B" in name:  # else nothing would be adapted
            torch.nn.init.normal_(weights, std=0.05)
    tuner.save(folder, torch.nn.Linear(text.embedding_width, len(EMOTIONS)))
    return folder


def checkpoint_with_reader(folder: Path) -> str:
    """folder/teacher: a network with random weights, and a reader like it."""
    text = TextConfig(context=2, tokens=32)
    config = replace(CONFIG, reader=text, experts=("reader",))
    save_checkpoint(FusionGCN(config), folder / "teacher", "card", {})
    random_reader(folder / "teacher" / "reader", text)
    return str(folder / "teacher")


def untrained_checkpoint(folder: Path) -> str:
    """folder/checkpoint: a network of `CONFIG` with random weights."""
    torch.manual_seed(0)
    save_checkpoint(FusionGCN(CONFIG), folder / "checkpoint", "card", {})
    return str(folder / "checkpoint")
