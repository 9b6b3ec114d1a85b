"""Checkpoints: weights, configuration and experts that are damaged, or of something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from model.fusion.checkpoint import CheckpointError, load_checkpoint, load_step, save_checkpoint
from model.fusion.config import FusionConfig
from model.fusion.network import FusionGCN
from tests.fuzz.mutations import WORDS, altered, mutated
from tests.fuzz.target import Target

CONFIG = FusionConfig(
    "s", ("a", "b"), ("x", "y", "z"), ("text", "audio"), (6, 3), hidden=8, heads=2, window=4, revision=1
)
EXPERTS = {"voice": {"weight": 0.5, "prior": {"a": 0.5, "b": 0.5}}}


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    save_checkpoint(FusionGCN(CONFIG), folder, "# card\n", {})
    files = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    files["experts.json"] = json.dumps(EXPERTS).encode()

    def take(given: tuple[str, dict[str, bytes]]) -> None:
        how, spoilt = given
        for name, content in (files | spoilt).items():
            (folder / name).write_bytes(content)
        load_step(str(folder)) if how == "step" else load_checkpoint(str(folder))

    documents = {name: [json.loads(content)] for name, content in files.items() if name.endswith(".json")}
    spoilt = st.one_of(
        st.fixed_dictionaries({"model.safetensors": mutated([files["model.safetensors"]], WORDS)}),
        *(
            st.fixed_dictionaries({name: altered(seeds).map(lambda made: json.dumps(made).encode())})
            for name, seeds in documents.items()
        ),
        *(st.fixed_dictionaries({name: mutated([files[name]], WORDS)}) for name in documents),
    )
    how = st.sampled_from(["step", "step", "network"])
    yield Target(st.tuples(how, spoilt), take, refusals=(CheckpointError,))
