"""LoRA tuning of the text encoders: first on single sentences (GoEmotions), then on conversations, in context.

LoRA: Hu et al. 2021, arXiv 2106.09685, by `peft`, on every linear layer. The fusion-GCN is trained on the embeddings of
the first adapter. The second starts from it and, with its head, is the expert "reader". It memorises the training
conversations, so its embeddings of them would mislead the graph (model/RESULTS.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import with_config
from sklearn.metrics import f1_score
from torch import nn

from model.data.tables import Dialogue
from model.encoders.text import Line, Reader, TextConfig, accepted, load_encoder, pooled, quiet
from model.fusion.checkpoint import identity
from model.labels import SENTIMENTS, LabelSet
from model.progress import Progress
from model.training.examples import Examples, read_conversations, read_goemotions
from model.training.noise import vocabulary, with_word_errors, with_wrong_speakers
from model.training.prepared import UNKNOWN, like_lengths
from model.training.teaching import Lessons, ask


@with_config(extra="forbid")
@dataclass(frozen=True)
class AdapterRecipe:
    """Hyperparameters of the tuning. The defaults are those of the shipped checkpoints."""

    rank: int = 8
    rate: float = 7e-4
    epochs: int = 3
    """On the conversations; the best epoch on dev by weighted F1 is selected."""
    batch: int = 32
    dropout: float = 0.2
    """On the embedding in front of the head. None inside the encoder: random numbers would be half of the cost."""
    class_weight_power: float = 0.25
    label_smoothing: float = 0.05
    sentiment_weight: float = 0.3
    word_errors: float = 0.05
    """Word error rate of the noise in the training data, drawn anew for each epoch."""
    speaker_errors: float = 0.05
    """Rate of wrong speakers in the training data, drawn anew for each epoch."""
    sentence_rate: float = 1e-3
    sentence_epochs: int = 3
    """On GoEmotions; 0: without that stage."""
    sentence_teachers: tuple[str, ...] = ()
    """Checkpoints whose readers label the sentences of GoEmotions; none: their annotators."""
    reader_seeds: tuple[int, ...] = (0,)
    """Seeds of the tuning on the conversations: the first reader is served, the others only teach with it."""
    graph: bool = True
    """The graph uses the adapter tuned on GoEmotions; False: the encoder as it is."""
    sentence_batch: int = 64


class Tuner:
    """An encoder with its adapter and, during training, its heads; in bfloat16, on CUDA where there is a GPU."""

    def __init__(self, text: TextConfig, recipe: AdapterRecipe, seed: int) -> None:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        self.text, self.recipe = text, recipe
        self._read = Reader(text)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        encoder = load_encoder(text.encoder)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        lora = LoraConfig(
            r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear", exclude_modules=".*pooler.*"
        )
        with quiet():
            self._model: Any = get_peft_model(encoder, lora).to(self._device)

    def load(self, adapter: Path) -> None:
        """Load the weights of a tuned adapter, to continue from them."""
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(self._model, load_peft_weights(str(adapter), device=str(self._device)))

    def save(self, adapter: Path, head: nn.Module) -> None:
        """Write the adapter in half precision in PEFT's layout, and the emotion head."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        adapter.mkdir(parents=True, exist_ok=True)
        weights = {
            name: value.half().cpu()
            for name, value in get_peft_model_state_dict(self._model, save_embedding_layers=False).items()
        }
        save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
        head_weights = {name: value.cpu().contiguous() for name, value in head.state_dict().items()}
        save_file(head_weights, adapter / "head.safetensors")
        config = self._model.peft_config["default"]
        config.base_model_name_or_path = self.text.encoder
        config.inference_mode = True
        config.save_pretrained(str(adapter))

    def fit(
        self,
        epochs: Sequence[Examples],
        validation: Examples,
        rate: float,
        batch: int,
        folder: Path,
        seed: int,
        progress: Progress,
    ) -> float:
        """Train one epoch on each of `epochs`; the best on validation is in folder/"best".

        Returns its weighted F1, 0 … 1. An interrupted fit continues after its last complete epoch.
        """
        rng, recipe = np.random.default_rng(seed), self.recipe
        classes = epochs[0].target.shape[1]
        share = epochs[0].target.mean(0)
        weight = (1 / np.maximum(share, 1e-4)) ** recipe.class_weight_power
        weight = torch.tensor(weight / (weight * share).sum(), dtype=torch.float32, device=self._device)
        heads = nn.ModuleList([nn.Linear(self.text.embedding_width, n) for n in (classes, len(SENTIMENTS))])
        heads.to(self._device)
        tuned = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": tuned}, {"params": heads.parameters()}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = sum(-(-len(examples.lines) // batch) for examples in epochs)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [rate, 1e-3], total_steps=steps + 1, pct_start=0.1)
        parts = {"adapter": self._model, "heads": heads, "optimizer": optimizer, "schedule": schedule}
        first_epoch, best = self._load_state(folder / "state.pt", parts)
        for number, examples in enumerate(epochs):
            order = like_lengths(examples.length, batch, rng)
            if number < first_epoch:
                continue
            self._model.train()
            torch.manual_seed(1000 * seed + number)  # so that a resumed fit draws the same dropout
            losses = []
            for step, chosen in enumerate(order):
                loss = self._loss(examples, chosen, heads, weight)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(tuned, 1.0)
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
                progress.step(f"{folder.name}, epoch {number + 1} of {len(epochs)}", step + 1, len(order))
            guess = self.predict(validation, heads[0]).argmax(1)
            score = float(f1_score(validation.target.argmax(1), guess, average="weighted", zero_division=0))
            mean = float(np.mean(losses))
            progress.curve(folder.name, {"loss": mean, "validation weighted F1": 100 * score}, number + 1)
            progress.tell(
                f"{folder.name}: epoch {number + 1} of {len(epochs)}, loss {mean:.3f}, "
                f"validation weighted F1 {100 * score:.2f}"
            )
            if score > best:
                best = score
                self.save(folder / "best", heads[0])
            self._save_state(folder / "state.pt", parts, number + 1, best)
        return best

    def _loss(
        self, examples: Examples, chosen: NDArray[np.int64], heads: nn.ModuleList, weight: torch.Tensor
    ) -> torch.Tensor:
        recipe = self.recipe
        embedding = F.dropout(self._embed([examples.lines[i] for i in chosen]), recipe.dropout)
        target = torch.from_numpy(examples.target[chosen]).to(self._device)
        target = (1 - recipe.label_smoothing) * target + recipe.label_smoothing / target.shape[1]
        loss: torch.Tensor = -(target * weight * heads[0](embedding).log_softmax(-1)).sum(-1).mean()
        if examples.sentiment is not None:
            coarse = torch.from_numpy(examples.sentiment[chosen]).to(self._device)
            if (known := coarse != UNKNOWN).any():
                loss = loss + recipe.sentiment_weight * F.cross_entropy(heads[1](embedding)[known], coarse[known])
        return loss

    def _embed(self, lines: Sequence[Sequence[Line]]) -> torch.Tensor:
        arrays, pool = self._read(lines)
        with torch.autocast(self._device.type, torch.bfloat16):
            hidden = self._model(**accepted(arrays, self._model), output_hidden_states=True).hidden_states
        embedding: torch.Tensor = pooled(hidden, torch.from_numpy(pool).to(self._device), self.text)
        return embedding

    @torch.inference_mode()
    def predict(self, examples: Examples, head: nn.Module) -> NDArray[np.float32]:
        """[n, C] float32 posteriors of the examples."""
        self._model.eval()
        out = np.empty(examples.target.shape, np.float32)
        for chosen in like_lengths(examples.length, 64):
            embedding = self._embed([examples.lines[i] for i in chosen])
            out[chosen] = head(embedding).softmax(-1).float().cpu().numpy()
        return out

    @staticmethod
    def _save_state(file: Path, parts: dict[str, Any], epochs: int, best: float) -> None:
        state = {name: part.state_dict() for name, part in parts.items() if name != "adapter"}
        trained = {name for name, parameter in parts["adapter"].named_parameters() if parameter.requires_grad}
        state["adapter"] = {name: value for name, value in parts["adapter"].state_dict().items() if name in trained}
        partial = file.with_suffix(".partial")
        torch.save(state | {"epochs": epochs, "best": best}, partial)
        partial.replace(file)

    @staticmethod
    def _load_state(file: Path, parts: dict[str, Any]) -> tuple[int, float]:
        """(epochs done, best score so far) of an interrupted fit."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            return 0, -1.0
        state = torch.load(file, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name], **({"strict": False} if name == "adapter" else {}))
        return int(state["epochs"]), float(state["best"])


def tune_sentences(
    text: TextConfig, recipe: AdapterRecipe, data: Path, work: Path, seed: int, progress: Progress
) -> Path | None:
    """The adapter tuned on GoEmotions, trained once for each encoder and recipe; None when the recipe is without it.

    Raises CheckpointError for a teacher that cannot teach.
    """
    if recipe.sentence_epochs == 0:
        return None
    settings = [
        text.encoder,
        text.layers,
        text.context > 0,
        recipe.rank,
        recipe.sentence_rate,
        recipe.sentence_epochs,
        recipe.sentence_batch,
        [identity(name) for name in recipe.sentence_teachers],
        seed,
    ]
    folder = work / f"sentences-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"
    if not (folder / "done").exists():
        training, validation = (_sentences(data / f"{split}.tsv", recipe, progress) for split in ("train", "dev"))
        tuner = Tuner(text, recipe, seed)
        epochs = [training] * recipe.sentence_epochs
        tuner.fit(epochs, validation, recipe.sentence_rate, recipe.sentence_batch, folder, seed, progress)
        (folder / "done").touch()
    return folder / "best"


def _sentences(file: Path, recipe: AdapterRecipe, progress: Progress) -> Examples:
    """Sentences of GoEmotions, with the targets of the recipe."""
    examples = read_goemotions(file)
    if not recipe.sentence_teachers:
        return examples
    return replace(examples, target=ask(recipe.sentence_teachers, None, examples.lines, progress))


def tune_conversations(
    text: TextConfig,
    recipe: AdapterRecipe,
    training: Sequence[Dialogue],
    validation: Sequence[Dialogue],
    labels: LabelSet,
    start: Path | None,
    lessons: Lessons | None,
    work: Path,
    seed: int,
    progress: Progress,
) -> Path:
    """The adapter tuned on conversations, in context, from the adapter `start` or from the encoder as it is.

    lessons: what a larger reader says of the training data; None: their labels alone.
    """
    folder = work / f"reader-{seed}"
    if not (folder / "done").exists():
        tuner = Tuner(text, recipe, seed)
        if start is not None:
            tuner.load(start)
        epochs, words = [], vocabulary(training)
        for epoch in range(recipe.epochs):
            noisy = with_word_errors(training, recipe.word_errors, words, seed=1000 * seed + epoch)
            noisy = with_wrong_speakers(noisy, recipe.speaker_errors, seed=1000 * seed + epoch)
            examples = read_conversations(noisy, labels, text.context)
            epochs.append(lessons.added_to(examples, 1000 * seed + epoch) if lessons else examples)
        dev = read_conversations(validation, labels, text.context)
        tuner.fit(epochs, dev, recipe.rate, recipe.batch, folder, seed, progress)
        (folder / "done").touch()
    return folder / "best"
