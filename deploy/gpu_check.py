"""What a GPU does for Undertone, by one command: equality with the CPU, then speed. Imports `model` alone.

    python deploy/gpu_check.py [--out result.json]

Needs no network, no Ray and no Redis, and of packages PyTorch, transformers, safetensors, onnxruntime and NumPy; takes
at most 5 minutes. Without a GPU it runs on the CPU, with small sizes. Weights of the encoders are random: time does not
depend on them. Exit code 1: the device labels otherwise than the CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.fusion.checkpoint import load_checkpoint, load_step
from model.fusion.config import FusionConfig
from model.fusion.device_engine import SIZES, DeviceEngine, StepInProgress
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller, StepResult
from model.fusion.network import FusionGCN
from model.fusion.step import Arrays, FusionStep

CHECKPOINT = "meld"
TOLERANCE = 1e-5  # of probabilities
TURN_S = 4.0  # seconds between two utterances of a conversation
Rows = list[dict[str, Any]]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    options.add_argument("--out", type=Path, help="Write the figures as JSON here, too.")
    given = options.parse_args()
    on_gpu = given.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("gpu_check: PyTorch finds no CUDA device here (--device cpu runs the same on the CPU)")
    started = time.perf_counter()
    found: dict[str, Any] = {"machine": _machine(given.device)}
    sections: dict[str, Callable[[], Rows]] = {
        "equality": lambda: equality(given.device, 64 if on_gpu else 9),
        "memory": lambda: memory(given.device),
        "steps": lambda: steps(given.device, SIZES if on_gpu else SIZES[:3], 2.0 if on_gpu else 0.2),
        "arrivals": lambda: arrivals(given.device, (1_000, 10_000, 50_000, 100_000) if on_gpu else (200,), on_gpu),
        "encoders": lambda: encoders(given.device, on_gpu),
    }
    for name, section in sections.items():
        found[name] = section()
        _print(name, found[name])
    found["seconds"] = round(time.perf_counter() - started, 1)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    equal = all(row["largest difference"] <= TOLERANCE for row in found["equality"] if row["precision"] == "float32")
    print(f"\n{found['machine']['device']}: {found['seconds']} s;", "equal to the CPU" if equal else "NOT EQUAL")
    return 0 if equal else 1


def equality(device: str, sessions: int) -> Rows:
    """Largest difference of a probability from the CPU's ONNX Runtime: batches of any size, more utterances than the
    window, states that move away and come back, restart from rows, final labels at the end."""
    rows = []
    for precision in ("float32", "tf32") if device == "cuda" else ("float32",):
        for most in (None, max(1, sessions // 2)):
            cpu, engine = _cpu(), _engine(device, precision, most)
            labellers = IncrementalLabeller(cpu), IncrementalLabeller(_step_of(cpu, engine))
            rows.append(
                {
                    "precision": precision,
                    "conversations": sessions,
                    "states on the device": "all" if most is None else most,
                    "largest difference": float(f"{_difference(*labellers, sessions):.1e}"),
                }
            )
    return rows


def _difference(one: IncrementalLabeller, other: IncrementalLabeller, sessions: int) -> float:
    config, rng, worst = one.config, np.random.default_rng(0), 0.0
    states = [[each.new_state() for _ in range(sessions)] for each in (one, other)]
    kept: list[list[StepResult]] = [[] for _ in range(sessions)]
    for n in range(2 * config.window + 5):
        most = max(1, sessions // 2)
        chosen = rng.choice(sessions, rng.integers(1, most + 1), replace=False) if n % 2 else np.arange(most)
        spoken = [_utterance(config, rng) for _ in chosen]
        mine, theirs = (
            each.step([of[b] for b in chosen], spoken) for each, of in zip((one, other), states, strict=True)
        )
        for b, x, y in zip(chosen, mine, theirs, strict=True):
            worst = max(worst, _apart(x.prediction, y.prediction), _apart(x.final, y.final))
            kept[b].append(y)
        if n == config.window:  # one conversation goes on from what the other engine left
            rows = [step.row for step in kept[0]][-config.window :]
            states[1][0] = other.restore(rows)
            states[0][0] = one.restore(rows)
    for a, b in zip(*states, strict=True):
        for x, y in zip(one.finish(a), other.finish(b), strict=True):
            worst = max(worst, _apart(x, y))
    return worst


def _apart(one: Any, other: Any) -> float:
    if one is None or other is None:
        return 0.0 if one is other else 1.0
    return max(abs(p - other.emotion[name]) for name, p in one.emotion.items())


def steps(device: str, sizes: tuple[int, ...], seconds: float) -> Rows:
    """Steps a second by the size of a batch, arrays in and arrays out: with two steps under way at once, and one after
    another, where the time is that of a whole step. The states are those of twice as many conversations."""
    rows = []
    for precision in ("float32", "tf32") if device == "cuda" else ("float32",):
        engine = _engine(device, precision)
        states = [engine.new() for _ in range(2 * sizes[-1])]
        for size in sizes:
            work = _work(engine, np.array(states), size)
            took = _each(seconds, lambda work=work: next(work).result())
            count, pending, begun = 0, next(work), time.perf_counter()
            while time.perf_counter() - begun < seconds:
                following = next(work)
                pending.result()
                pending, count = following, count + 1
            rate = count * size / (time.perf_counter() - begun)
            pending.result()
            rows.append(
                {
                    "precision": precision,
                    "batch": size,
                    "steps/s": round(rate),
                    "ms a batch p50": round(float(np.percentile(took, 50)), 3),
                    "p99": round(float(np.percentile(took, 99)), 3),
                    "GPU alone, ms": _graph_alone(engine, size),
                }
            )
    return rows


def _work(engine: DeviceEngine, states: np.ndarray, size: int) -> Iterator[StepInProgress]:
    """Steps of `size` of the states, others each time."""
    inputs, start = _inputs(size), 0
    while True:
        chosen = np.take(states, range(start, start + size), mode="wrap")
        start = (start + size) % len(states)
        yield engine.submit(chosen, inputs)
        inputs["index"] = inputs["index"] + 1


def _graph_alone(engine: DeviceEngine, size: int) -> float | None:
    """Milliseconds of a captured step, without copies from and to the machine's memory."""
    graph = engine._batches[size]._graph
    if graph is None:
        return None
    with torch.cuda.stream(engine._compute):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(20):
            graph.replay()
        end.record()
    end.synchronize()
    return round(begin.elapsed_time(end) / 20, 4)


def arrivals(device: str, sessions: tuple[int, ...], on_gpu: bool) -> Rows:
    """Utterances of so many conversations, one each in `TURN_S` at random times: whoever waits is the next batch.

    The time is from an utterance's arrival to its label in an array.
    """
    rows = []
    for count in sessions:
        engine = _engine(device, "tf32" if on_gpu else "float32")
        states = np.array([engine.new() for _ in range(count)])
        most = SIZES[-1] if on_gpu else 32
        every = _inputs(most)
        # All states first, then every size: nothing grows, and nothing is captured, while the clock runs.
        for size in sorted((size for size in SIZES if on_gpu or size <= 32), reverse=True):
            for start in range(0, count, size) if size == most else (0,):
                part = states[start : start + size]
                engine.step(part, _inputs(len(part)))
        rng, seconds = np.random.default_rng(0), 5.0 if on_gpu else 0.5
        due = np.sort(rng.uniform(0, seconds, int(count / TURN_S * seconds)))
        who = rng.integers(0, count, len(due))
        waits, sizes, done, begun = [], [], 0, time.perf_counter()
        while done < len(due):
            now = time.perf_counter() - begun
            until = min(int(np.searchsorted(due, now)), done + most)
            if until == done:
                continue
            chosen = np.unique(who[done:until])
            engine.step(states[chosen], _first(every, len(chosen)))
            waits.append(time.perf_counter() - begun - due[done:until])
            sizes.append(len(chosen))
            done = until
        waited = 1000 * np.concatenate(waits)
        rows.append(
            {
                "conversations": count,
                "utterances/s": round(len(due) / max(seconds, time.perf_counter() - begun)),
                "offered/s": round(count / TURN_S),
                "ms to the label p50": round(float(np.percentile(waited, 50)), 2),
                "p99": round(float(np.percentile(waited, 99)), 2),
                "mean batch": round(float(np.mean(sizes)), 1),
            }
        )
        del engine
    return rows


def memory(device: str) -> Rows:
    """Bytes of a state, and how many fit."""
    engine = _engine(device, "float32")
    row = {"KiB a state": round(engine.nbytes() / 1024, 1)}
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        row |= {"GiB free": round(free / 2**30, 1), "GiB": round(total / 2**30, 1)}
        row |= {"states that are held": engine._most, "states in all of it": int(free / engine.nbytes())}
    return [row]


def encoders(device: str, on_gpu: bool) -> Rows:
    """Texts a second of encoders of MiniLM's and MPNet's shapes; attention over all tokens, none is padding."""
    from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

    shapes: dict[str, Callable[[], torch.nn.Module]] = {
        "MiniLM-L6": lambda: BertModel(
            BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        ),
        "MPNet-base": lambda: MPNetModel(MPNetConfig()),
    }
    if not on_gpu:
        tiny = BertConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
        shapes = {"a tiny one": lambda: BertModel(tiny)}
    rows = []
    for name, make in shapes.items():
        for kind in (torch.float32, torch.float16) if on_gpu else (torch.float32,):
            network = make().eval().to(device, kind)
            for tokens in (32, 128):
                for batch in (1, 32, 256) if on_gpu else (1, 4):
                    ids = torch.randint(1000, 20_000, (batch, tokens), device=device)

                    def run(network: torch.nn.Module = network, ids: torch.Tensor = ids) -> None:
                        with torch.inference_mode():
                            network(input_ids=ids)
                        if on_gpu:
                            torch.cuda.synchronize()

                    took = _each(1.0 if on_gpu else 0.1, run)
                    p50 = float(np.percentile(took, 50))
                    rows.append(
                        {
                            "encoder": name,
                            "kind": str(kind).removeprefix("torch."),
                            "tokens": tokens,
                            "batch": batch,
                            "texts/s": round(1000 * batch / p50),
                            "ms a batch p50": round(p50, 3),
                        }
                    )
    return rows


@cache
def _cpu() -> FusionStep:
    return load_step(CHECKPOINT)


def _engine(device: str, precision: Any, most: int | None = None) -> DeviceEngine:
    network: FusionGCN = load_checkpoint(CHECKPOINT)
    return DeviceEngine(network, _cpu().config, device, precision, most)


def _step_of(cpu: FusionStep, engine: DeviceEngine) -> FusionStep:
    """The CPU's network by another engine."""
    weights = {"certain_from": np.float32(cpu.certain_from), **cpu.experts}
    return FusionStep(cpu.config, weights, engine)


def _inputs(size: int) -> Arrays:
    """Inputs of a step of so many conversations that have filled their windows; 64 different utterances."""
    step, rng = _cpu(), np.random.default_rng(0)
    few = step.read([_utterance(step.config, rng) for _ in range(64)])
    of_each = {name: np.resize(v, (size, *v.shape[1:])) for name, v in few.items() if name not in step.experts}
    return step.experts | of_each | {"index": np.full(size, 100)}


def _first(inputs: Arrays, count: int) -> Arrays:
    shared = _cpu().experts
    return {name: values if name in shared else values[:count] for name, values in inputs.items()}


def _utterance(config: FusionConfig, rng: np.random.Generator) -> UtteranceFeatures:
    """Made up: each modality and each expert there in nine of ten."""
    features = {
        name: rng.normal(size=width).astype(np.float32) for name, width in config.inputs.items() if rng.random() < 0.9
    }
    posteriors = {
        name: rng.dirichlet(np.ones(len(config.emotions))).astype(np.float32)
        for name in config.experts
        if rng.random() < 0.9
    }
    return UtteranceFeatures(features, int(rng.integers(4)), posteriors)


def _each(seconds: float, work: Callable[[], object]) -> list[float]:
    """Milliseconds of each run, for so long; the first three are not counted."""
    for _ in range(3):
        work()
    took, until = list[float](), time.perf_counter() + seconds
    while not took or time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - begun))
    return took


def _machine(device: str) -> dict[str, Any]:
    made = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(made))
    return made


def _print(name: str, rows: Rows) -> None:
    columns = list(rows[0])
    print(f"\n{name}\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(f"{row.get(column, '')}" for column in columns) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
