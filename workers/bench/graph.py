"""`undertone bench graph`: what one utterance's step costs, as a conversation grows and as sessions are batched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from model.checkpoint import load_with_media
from model.dialogue import GraphState, Heard, collate
from model.fusion import FusionGCN
from model.incremental import Labeller
from model.progress import Progress
from workers.tables import Rows

LENGTHS = (10, 100, 1_000, 10_000)  # utterances that went before
SESSIONS = (1, 8, 64, 512)
ROUNDS = 200


def bench_graph(hidden: int | None, progress: Progress) -> tuple[Rows, Rows]:
    """Rows of a step after so many utterances, on one core, and of steps a second by sessions in a batch, on all.

    hidden: width of the network, with random weights; None = the shipped checkpoint's. Times are taken in turns.
    """
    model = load_with_media("meld")
    if hidden is not None:
        torch.manual_seed(0)
        model = FusionGCN(replace(model.config, hidden=hidden)).eval()
    labeller, cores = Labeller(model), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        growing = _growing(labeller, progress)
    finally:
        torch.set_num_threads(cores)
    return growing, _batched(labeller, progress)


def _growing(labeller: Labeller, progress: Progress) -> Rows:
    model, window = labeller.model, labeller.config.window
    everything = [_heard(model, n) for n in range(100)]
    works: dict[str, Callable[[], object]] = {}
    for n in LENGTHS:
        progress.step("conversations", LENGTHS.index(n), len(LENGTHS))
        state = _after(labeller, n)
        works[f"step after {n:,}"] = partial(labeller.step, [state], [_heard(model, n)])
    utterances, within = (collate([part], model.config, [0]) for part in (everything, everything[-window - 1 :]))
    works["re-run over the window"] = partial(model, within)
    works["re-run over the dialogue of 100"] = partial(model, utterances, lookahead=1_000_000)
    milliseconds = _in_turns(works)
    unit = milliseconds[f"step after {LENGTHS[0]:,}"]
    rows: Rows = []
    for name, times in milliseconds.items():
        ratio = float(np.median(times) / np.median(unit))
        p50, p95 = np.percentile(times, [50, 95])
        rows.append({"work": name, "ms, median": round(p50, 3), "95 %": round(p95, 3), "ratio": round(ratio, 2)})
    state = _after(labeller, 1)
    size = sum(t.nbytes for t in (state.rows, state.present, state.slot, state.index))
    rows.append({"work": f"one session's state: {size / 1024:.0f} KiB, hidden {model.config.hidden}, W {window}"})
    return rows


def _batched(labeller: Labeller, progress: Progress) -> Rows:
    rows: Rows = []
    for n, sessions in enumerate(SESSIONS):
        progress.step("batches", n, len(SESSIONS))
        states = [_after(labeller, 25) for _ in range(sessions)]
        heard = [_heard(labeller.model, 25) for _ in range(sessions)]
        rounds = max(5, ROUNDS // sessions)
        times = _in_turns({"": partial(labeller.step, states, heard)}, rounds)[""]
        median = float(np.median(times))
        rows.append({"sessions": sessions, "ms a batch": round(median, 2), "steps/s": round(1000 * sessions / median)})
    return rows


def _after(labeller: Labeller, count: int) -> GraphState:
    """The state of a conversation with so many utterances; those before the window have left nothing in it."""
    state = labeller.new_state()
    for _ in range(min(count, 2 * labeller.config.window)):
        labeller.step([state], [_heard(labeller.model, state.count)])
    if count > state.count:
        shift = (count - state.count) // labeller.config.window * labeller.config.window
        state.index += shift
        state.count += shift
    return state


def _heard(model: FusionGCN, n: int) -> Heard:
    rng = np.random.default_rng(n % 97)
    features = {name: rng.normal(size=width).astype(np.float32) for name, width in model.config.inputs.items()}
    return Heard(features, n % 3, {name: rng.dirichlet(np.ones(7)).astype(np.float32) for name in model.config.experts})


def _in_turns(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, Sequence[float]]:
    """Milliseconds of each run.

    In turns, so that a busy moment of the machine meets all of them, and each time in another order, so that none
    always finds the caches as the same other left them.
    """
    spent: dict[str, list[float]] = {name: [] for name in works}
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        for work in works.values():
            work()
        for _ in range(rounds):
            for name in rng.permutation(list(works)):
                started = time.perf_counter()
                works[name]()
                spent[name].append(1000 * (time.perf_counter() - started))
    return dict(spent)
