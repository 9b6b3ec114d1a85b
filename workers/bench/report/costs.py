"""Costs of a session, from a file of results; `undertone plan` calculates with them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workers.bench.report.results import Results, ResultsError, read_results, tables_of
from workers.bench.speed.words import NO_PARTIALS, ONE_MICROPHONE
from workers.inference.recognizer import MAX_BATCH

SHIPPED = Path(__file__).parent / "measured.json"
SHIPPED_GPU = Path(__file__).parent / "gpu.json"


@dataclass(frozen=True)
class Costs:
    """Costs of one session in real time, measured by `bench capacity` and `bench encoders` on one machine."""

    machine: str
    cores: int
    taken: str
    """Time of the measurement, ISO 8601."""
    held: dict[str, int]
    """Largest number of sessions that the machine kept in real time, by source of words."""
    utterances: float
    """Utterances a minute and session."""
    events: float
    """Events an utterance."""
    event_bytes: float
    """Bytes of an event's JSON."""
    kept_bytes: float
    """Bytes of an event in Redis."""
    running: dict[str, float]
    """CPU-seconds for a minute of media, independent of speech: session, ray; segmentation of one microphone."""
    understanding: dict[str, float]
    """CPU-seconds for an utterance: text, audio, speaker (of one microphone), visual, graph, redis, and each speech
    recognizer."""
    memory: dict[str, float]
    """MB of a process: session, encoder, recognizer, face, each speech recognizer; ray: of all its processes on a
    node; segmentation: that it adds to a session."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class GpuCosts:
    """Costs of an utterance's parts on a GPU, as `deploy/gpu_check.py` measured them alone, without sessions."""

    name: str
    step: float
    """Seconds of the GPU for a step of the graph, in batches as a recognizer makes them."""
    text: float
    """Seconds of the GPU for a text of 128 tokens by itself in 16-bit numbers; a core waits for it meanwhile."""


def read_gpu(file: Path = SHIPPED_GPU) -> GpuCosts:
    """Read the costs from a file of `deploy/gpu_check.py`. Raises ResultsError and FileNotFoundError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        step = next(r for r in values["steps"] if r["precision"] == "float32" and r["batch"] == MAX_BATCH)
        text = next(r for r in values["encoders"] if (r["kind"], r["tokens"], r["batch"]) == ("float16", 128, 1))
        return GpuCosts(values["machine"]["device"], 1 / step["steps/s"], 1 / text["texts/s"])
    except (ValueError, TypeError, LookupError, StopIteration):
        raise ResultsError(f"{file}: not what deploy/gpu_check.py writes on a GPU") from None


def read_costs(file: Path = SHIPPED) -> Costs:
    """Read the costs from a file of `undertone bench all` or `undertone bench costs`.

    Raises ResultsError and FileNotFoundError.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if "parts" not in values:
            return Costs(**values)
    except (ValueError, TypeError):
        raise ResultsError(f"{file}: neither results of `undertone bench all` nor of `undertone bench costs`") from None
    try:
        return costs_of(read_results(file))
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ResultsError(f"{file}: its capacity and encoders parts do not fit this version ({error!r})") from None


def costs_of(results: Results) -> Costs:
    """Costs from the results of `undertone bench all`.

    The base is the measurement with given words; of each speech recognizer only its own cost is added. The shares of
    text and audio in the encoder's process, and the faces that those sessions lack, come from the benchmark of the
    encoders; what one microphone adds is the difference to the same conversation on one. Raises ResultsError.
    """
    for part in ("capacity", "encoders"):
        if not tables_of(results, part):
            raise ResultsError(f"the results hold no {part}: undertone bench all --only capacity,encoders")
    capacity, encoders = tables_of(results, "capacity"), tables_of(results, "encoders")["encoders"]
    levels, costs = capacity["capacity"], capacity["capacity_costs"]
    held: dict[str, int] = {}
    for row in (row for row in levels if not row["words"].endswith(NO_PARTIALS)):
        held[row["words"]] = max(held.get(row["words"], 0), row["sessions"] if row["held"] == "yes" else 0)
    level = next(row for row in levels if row["words"] == "transcript" and row["sessions"] == 1)
    utterances = level["utterances/min"]
    seconds, memory = _processes(costs, "transcript")
    alone = {kind: sum(row["ms"] for row in encoders if row["modality"] == kind) / 1000 for kind in ENCODER_MODALITIES}
    both = alone["text"] + alone["audio"]
    understanding = {
        "text": seconds["encoder"] / utterances * alone["text"] / both,
        "audio": seconds["encoder"] / utterances * alone["audio"] / both,
        "visual": alone["visual"],
        "graph": seconds["recognizer"] / utterances,
        "redis": seconds["redis"] / utterances,
    }
    looking = sum(row["MB_in_memory"] for row in encoders if row["modality"] == "visual")
    memory = {kind: memory[kind] for kind in ("session", "encoder", "recognizer", "ray")}
    memory["face"] = memory["recognizer"] + looking
    running = {"session": seconds["session"], "ray": seconds["ray"]}
    apart, sizes = _processes(costs, f"transcript{ONE_MICROPHONE}")
    if apart:
        running["segmentation"] = round(apart["session"] - seconds["session"], 3)
        # Nothing, where the embedding that tells speakers apart is the one that the voice encoder reads.
        understanding["speaker"] = max(0.0, apart["encoder"] - seconds["encoder"]) / utterances
        memory["segmentation"] = sizes["session"] - memory["session"]
    for asr in (words for words in held if words not in {"transcript", "none"} and not words.endswith(ONE_MICROPHONE)):
        spoken, sizes = _processes(costs, asr)
        understanding[asr] = spoken["transcriber"] / utterances
        memory[asr] = sizes["transcriber"]
    return Costs(
        machine=results["machine"]["cpu"],
        cores=results["machine"]["cores"],
        taken=results["taken"],
        held=held,
        utterances=utterances,
        events=round(level["events/min"] / utterances, 2),
        event_bytes=level["B/event"],
        kept_bytes=level["B kept/event"],
        running=running,
        understanding={name: round(value, 5) for name, value in understanding.items()},
        memory={name: round(value, 1) for name, value in memory.items()},
    )


ENCODER_MODALITIES = ("text", "audio", "visual")


def _processes(rows: list[dict[str, Any]], words: str) -> tuple[dict[str, float], dict[str, float]]:
    """CPU-seconds for a minute of media, and MB of a process (of Ray's own: of all), by kind of process."""
    by_process = {row["process"]: row for row in rows if row["words"] == words}
    sizes = {kind: row["MB each"] * (row["processes"] if kind == "ray" else 1) for kind, row in by_process.items()}
    return {kind: row["s/min"] for kind, row in by_process.items()}, sizes
