"""Study of cost: parameters, operations and time of a label, beside a transformer of the same size and beside
re-running the dialogue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.evaluation.lab import UNBOUNDED_WINDOW, Lab
from model.fusion.checkpoint import load_checkpoint
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller
from model.fusion.network import FusionGCN
from model.fusion.step_network import step_of
from model.training.collate import collate

LENGTHS = (10, 50, 200, 500)  # utterances so far


def cost(lab: Lab) -> str:
    """Cost of labelling one more utterance after n; times as ratios to ours at n = 10, measured in turns. Markdown."""
    model = load_checkpoint(lab.corpus)
    rng = np.random.default_rng(0)
    utterances = [
        UtteranceFeatures(
            {name: rng.normal(size=width).astype(np.float32) for name, width in model.config.inputs.items()}, n % 3
        )
        for n in range(max(LENGTHS))
    ]
    transformer, blocks = _transformer_like(model)
    works: dict[tuple[str, int], Callable[[], object]] = {}
    for n in LENGTHS:
        works["ours, incremental", n] = _incremental(model, utterances[:n])
        within = utterances[max(0, n - model.config.window) : n]
        works["the same network, re-run over its window", n] = _rerun(model, within)
        works["the same network, re-run over the dialogue", n] = _rerun(model, utterances[:n], everything=True)
        window = min(n, model.config.window)
        works["transformer of the same size, over our window", n] = _attend(transformer, window)
        works["transformer of the same size, over the dialogue", n] = _attend(transformer, n)
    milliseconds = _medians(works)
    rows: dict[str, list[dict[str, float]]] = {}
    for (name, n), work in works.items():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            work()
        operations = counter.get_total_flops()
        rows.setdefault(name, []).append({"n": n, "mflop": operations / 1e6, "ms": milliseconds[name, n]})
    unit = rows["ours, incremental"][0]["ms"]
    sizes = {"ours": model, "transformer": transformer}
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in sizes.items()}
    lab.out.mkdir(parents=True, exist_ok=True)
    (lab.out / "cost.json").write_text(json.dumps({"parameters": parameters, "rows": rows}, indent=1) + "\n")
    lines = [
        f"Parameters: ours {parameters['ours']:,}, the transformer ({blocks} encoder layers) "
        f"{parameters['transformer']:,}. MFLOP, and time as a multiple of ours at n = 10 "
        f"({unit:.2f} ms on {torch.get_num_threads()} threads):\n",
        "| | " + " | ".join(f"n = {n}" for n in LENGTHS) + " |",
        "|---" * (len(LENGTHS) + 1) + "|",
    ]
    for name, values in rows.items():
        cells = [f"{value['mflop']:.1f} MFLOP, × {value['ms'] / unit:.1f}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _incremental(model: FusionGCN, utterances: list[UtteranceFeatures]) -> Callable[[], object]:
    labeller = IncrementalLabeller(step_of(model))
    state = labeller.new_state()
    for utterance in utterances[:-1]:
        labeller.step([state], [utterance])
    return lambda: labeller.step([state], [utterances[-1]])


def _rerun(model: FusionGCN, utterances: list[UtteranceFeatures], everything: bool = False) -> Callable[[], object]:
    batch = collate([utterances], model.config, [0])
    return lambda: model(batch, lookahead=UNBOUNDED_WINDOW if everything else 0)


class _Transformer(nn.Module):
    """A plain transformer encoder over the concatenated embeddings of the utterances."""

    def __init__(self, width: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, hidden)
        layer = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(hidden, classes)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits [1, T, C] of embeddings [1, T, width]."""
        logits: torch.Tensor = self.head(self.encoder(self.project(embeddings)))
        return logits


def _transformer_like(model: FusionGCN) -> tuple[_Transformer, int]:
    """A transformer with about as many parameters as the model, and its number of layers."""
    config = model.config
    size = sum(p.numel() for p in model.parameters())
    made = [_Transformer(sum(config.widths), config.hidden, n, len(config.emotions)).eval() for n in range(1, 13)]
    sizes = [abs(sum(p.numel() for p in network.parameters()) - size) for network in made]
    best = int(np.argmin(sizes))
    return made[best], best + 1


def _attend(transformer: _Transformer, n: int) -> Callable[[], object]:
    embeddings = torch.randn(1, n, transformer.project.in_features)
    return lambda: transformer(embeddings)


def _medians(works: Mapping[tuple[str, int], Callable[[], object]], rounds: int = 30) -> dict[tuple[str, int], float]:
    """Median milliseconds of each; in turns, so that other load on the machine affects all of them."""
    spent: dict[tuple[str, int], list[float]] = {key: [] for key in works}
    with torch.inference_mode():
        for _ in range(rounds):
            for key, work in works.items():
                started = time.perf_counter()
                work()
                spent[key].append(1000 * (time.perf_counter() - started))
    return {key: float(np.median(times)) for key, times in spent.items()}
