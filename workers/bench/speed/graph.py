"""`undertone bench graph`, `undertone bench batching`: cost of one utterance's graph step, alone and in batches."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from model.fusion.checkpoint import load_step, save_checkpoint
from model.fusion.config import FusionConfig
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller
from model.fusion.step import FusionStep, GraphState, places
from model.progress import Progress
from workers.console.tables import Rows
from workers.inference.recognizer import MAX_BATCH, EmotionRecognizer

if TYPE_CHECKING:
    from model.fusion.network import FusionGCN

LENGTHS = (10, 100, 1_000, 10_000)  # utterances that went before
RE_RUNS = (10, 50, 100)
SESSIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ROUNDS = 200
BUSY_S = 1.0  # duration of each measurement


def bench_graph(hidden: int | None, progress: Progress) -> Rows:
    """Rows of a step after a number of utterances, by ONNX Runtime and by PyTorch, beside the network re-run over the
    window (in both) and over the dialogue; one core.

    hidden: width of a network with random weights; None: the shipped checkpoint. Times are taken in turns.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from model.fusion.network import FusionGCN
    from model.fusion.step_network import step_of
    from model.training.collate import collate

    torch.manual_seed(0)
    model = FusionGCN(_config(hidden)).eval()  # time does not depend on the weights
    config, network = model.config, _exported(model)
    labeller = IncrementalLabeller(network)
    works: dict[str, Callable[[], object]] = {}
    for n in LENGTHS:
        progress.step("conversations", LENGTHS.index(n), len(LENGTHS))
        works[f"step after {n:,}"] = partial(labeller.step, [_after(labeller, n)], [_features_of(config, n)])
    torch_labeller = IncrementalLabeller(step_of(model))
    in_torch = [_after(torch_labeller, LENGTHS[0])], [_features_of(config, 0)]
    works["step, PyTorch"] = partial(torch_labeller.step, *in_torch)
    window = [_features_of(config, k) for k in range(config.window + 1)]
    works["re-run over the window, ONNX Runtime"] = _rerun(model, [window])
    works["re-run over the window, PyTorch"] = partial(model, collate([window], config, [0]))
    for n in RE_RUNS:
        everything = collate([[_features_of(config, k) for k in range(n)]], config, [0])
        works[f"re-run over {n}"] = partial(model, everything, lookahead=1_000_000)
    # The caches stay as it left them itself.
    alone = {
        f"step after {LENGTHS[-1]:,}, in a loop": works[f"step after {LENGTHS[-1]:,}"],
        "re-run over the window, ONNX Runtime, in a loop": works["re-run over the window, ONNX Runtime"],
    }
    many = [_after(labeller, LENGTHS[1]) for _ in range(MAX_BATCH)], window[:1] * MAX_BATCH
    together: dict[str, Callable[[], object]] = {
        f"step, {MAX_BATCH} at once, for each": partial(labeller.step, *many),
        f"re-run over the window, ONNX Runtime, {MAX_BATCH} at once, for each": _rerun(model, [window] * MAX_BATCH),
    }
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), torch.inference_mode():
            milliseconds = _in_turns(works)
            for name, by_itself in alone.items():
                milliseconds |= _in_turns({name: by_itself})
            for name, of_all in together.items():
                milliseconds[name] = [taken / MAX_BATCH for taken in _in_turns({name: of_all})[name]]
    finally:
        torch.set_num_threads(cores)
    with FlopCounterMode(display=False) as counter:
        torch_labeller.step(*in_torch)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [
        *_rows(milliseconds),
        {"work": "multiply-adds of a step, million", "figure": round(counter.get_total_flops() / 2e6, 2)},
        {"work": "parameters, million", "figure": round(parameters / 1e6, 2)},
        {"work": "one session's state, KiB", "figure": round(_after(labeller, 1).nbytes / 1024)},
    ]


def _rows(milliseconds: dict[str, Sequence[float]]) -> Rows:
    """A row for each work, beside the shortest step, and one for the slope."""
    unit = milliseconds[f"step after {LENGTHS[0]:,}"]
    rows: Rows = []
    for name, times in milliseconds.items():
        ratio = float(np.median(times) / np.median(unit))
        p50, p95 = np.percentile(times, [50, 95])
        rows.append({"work": name, "ms, median": round(p50, 3), "95 %": round(p95, 3), "ratio": round(ratio, 2)})
    return [*rows, {"work": "slope, % a thousand utterances", **_slope(milliseconds)}]


def bench_batching(hidden: int | None, progress: Progress) -> Rows:
    """Rows by number of sessions that wait for the recognizer at the same time: steps a second, and the added waiting
    time of a label with random arrivals at a utilisation of a third."""
    config = _config(hidden)
    network = load_step("meld") if hidden is None else _random(config)
    rows: Rows = []
    with threadpool_limits(1):
        for n, sessions in enumerate(SESSIONS):
            progress.step("sessions", n, len(SESSIONS))
            rate = asyncio.run(_busy(network, sessions))
            waits = asyncio.run(_at_random(network, sessions, rate / 3))
            p50, p95 = np.percentile(waits, [50, 95])
            rows.append(
                {
                    "sessions": sessions,
                    "steps/s": round(rate),
                    "offered/s": round(rate / 3),
                    "added wait ms p50": round(float(p50), 2),
                    "added wait ms p95": round(float(p95), 2),
                }
            )
    return rows


async def _busy(network: FusionStep, sessions: int) -> float:
    """Labels a second when each session requests its next label as soon as it has one."""
    recognizer, until, count = EmotionRecognizer(network), time.perf_counter() + BUSY_S, 0

    async def talk(name: str) -> int:
        n = 0
        while time.perf_counter() < until:
            await recognizer.label(name, n, _features_of(network.config, n))
            n += 1
        return n

    started = time.perf_counter()
    count = sum(await asyncio.gather(*(talk(f"s{n}") for n in range(sessions))))
    return count / (time.perf_counter() - started)


async def _at_random(network: FusionStep, sessions: int, rate: float) -> Sequence[float]:
    """Milliseconds from request to label, less those of a single step; Poisson arrivals at `rate` a second."""
    recognizer, rng, waits = EmotionRecognizer(network), np.random.default_rng(0), list[float]()
    counts = dict.fromkeys((f"s{n}" for n in range(sessions)), 0)
    alone = []
    for n in range(20):
        begun = time.perf_counter()
        await recognizer.label("alone", n, _features_of(network.config, n))
        alone.append(time.perf_counter() - begun)

    async def request(name: str, number: int) -> None:
        begun = time.perf_counter()
        await recognizer.label(name, number, _features_of(network.config, number))
        waits.append(1000 * (time.perf_counter() - begun - float(np.median(alone))))

    pending: dict[str, asyncio.Task[None]] = {}
    due = started = time.perf_counter()
    while due < started + BUSY_S:
        due += rng.exponential(1 / rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        free = [name for name in counts if name not in pending or pending[name].done()]
        if free:  # a session's next utterance comes after its last
            name = free[rng.integers(len(free))]
            pending[name] = asyncio.create_task(request(name, counts[name]))
            counts[name] += 1
    await asyncio.gather(*pending.values())
    return waits


def _config(hidden: int | None) -> FusionConfig:
    shipped = load_step("meld").config
    return shipped if hidden is None else replace(shipped, hidden=hidden)


def _random(config: FusionConfig) -> FusionStep:
    import torch

    from model.fusion.network import FusionGCN

    torch.manual_seed(0)
    return _exported(FusionGCN(config).eval())


def _exported(model: FusionGCN) -> FusionStep:
    """A network with its export, as a checkpoint has it."""
    from model.fusion.export import export

    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, Path(folder), "", {})
        export(model, Path(folder))
        return load_step(folder)


def _rerun(model: FusionGCN, windows: list[list[UtteranceFeatures]]) -> Callable[[], object]:
    """The network over all of the windows of some conversations, in ONNX Runtime with one thread."""
    import onnxruntime
    from torch import Tensor, nn

    from model.fusion.export import to_onnx
    from model.fusion.network import Utterances
    from model.training.collate import collate

    class Window(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            features = {name: inputs[name] for name in model.config.inputs}
            rest = (inputs[name] for name in ("present", "slot", "index", "expert_posteriors"))
            emotion: Tensor = self.network(Utterances(features, *rest)).emotion
            return emotion

    batch = collate(windows, model.config, list(range(len(windows))))
    inputs = batch.features | {name: getattr(batch, name) for name in ("present", "slot", "index", "expert_posteriors")}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        to_onnx(Window().eval(), inputs, None, ["emotion"]).save(file.name)
        session = onnxruntime.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {name: values.numpy() for name, values in inputs.items()})


def _after(labeller: IncrementalLabeller, count: int) -> GraphState:
    """State of a conversation with `count` utterances; those before the window have no effect on it."""
    state, ring = labeller.new_state(), places(labeller.config)
    for _ in range(min(count, 2 * ring)):
        labeller.step([state], [_features_of(labeller.config, state.count)])
    state.count += max(0, count - state.count) // ring * ring
    return state


def _features_of(config: FusionConfig, n: int) -> UtteranceFeatures:
    return _synthetic(config, n % 97)


@cache
def _synthetic(config: FusionConfig, n: int) -> UtteranceFeatures:
    rng = np.random.default_rng(n)
    features = {name: rng.normal(size=width).astype(np.float32) for name, width in config.inputs.items()}
    classes = len(config.emotions)
    return UtteranceFeatures(
        features, n % 3, {name: rng.dirichlet(np.ones(classes)).astype(np.float32) for name in config.experts}
    )


def _slope(milliseconds: dict[str, Sequence[float]]) -> dict[str, float | str]:
    """Slope of the step's time over the conversation's length, with a 95 % bootstrap interval over the runs."""
    times = np.array([milliseconds[f"step after {n:,}"] for n in LENGTHS])
    rng, slopes = np.random.default_rng(0), []
    for _ in range(1000):
        drawn: NDArray[np.float64] = times[:, rng.integers(times.shape[1], size=times.shape[1])]
        medians = np.median(drawn, axis=1)
        slopes.append(100 * np.polynomial.polynomial.polyfit(np.array(LENGTHS) / 1000, medians / medians[0], 1)[1])
    low, high = np.percentile(slopes, [2.5, 97.5])
    return {"figure": f"{np.median(slopes):.2f} ({low:.2f} … {high:.2f})"}


def _in_turns(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, Sequence[float]]:
    """Milliseconds of each run.

    They run in turns, so that other load on the machine affects all of them, and in random order, so that none always
    finds the caches as the same other one left them.
    """
    spent: dict[str, list[float]] = {name: [] for name in works}
    rng = np.random.default_rng(0)
    for work in works.values():
        work()
    for _ in range(rounds):
        for name in rng.permutation(list(works)):
            started = time.perf_counter()
            works[name]()
            spent[name].append(1000 * (time.perf_counter() - started))
    return dict(spent)
