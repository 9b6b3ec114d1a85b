"""Capacity planning: the machines for a number of sessions, from the measured costs of one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from stream.block import RATE
from stream.bus.keys import RETENTION_S
from workers.bench.report.costs import Costs, GpuCosts
from workers.cluster.actors import CPU_SHARE
from workers.cluster.pools import MAX_TRANSCRIBERS, encoders_of
from workers.console.tables import Rows
from workers.errors import UsageError

TEXTS = 2  # of an utterance that encoders read: alone, and in its context
OTHER_ACTORS = 2  # of a node beside transcribers and encoders: recognizer, faces
ENCODER_STAGES = ("text", "audio", "speaker")
ONE_MICROPHONE_STAGES = ("segmentation", "speaker")


@dataclass(frozen=True)
class Demand:
    """The load to plan for, at its busiest."""

    sessions: int
    asr: str | None = None
    """Speech recognizer, as the costs name it; None: words are given, or not used."""
    modalities: tuple[str, ...] = ("text", "audio")
    one_microphone: float = 0.0
    """Share of the sessions whose speakers are distinguished by voice, 0 … 1; in the others each has a channel."""
    utterances: float | None = None
    """Utterances a minute and session. [default: as measured]"""
    hours: float = 24.0
    """Hours a day with this load."""


@dataclass(frozen=True)
class Machines:
    """The available machines."""

    cores: int = 16
    """Cores of a node."""
    memory: float = 64.0
    """GB of memory of a node, and of a Redis shard."""
    utilisation: float = 0.6
    """Planned utilisation of a core, a process and memory, 0 … 1."""
    gpu: GpuCosts | None = None
    """The GPU of each node, of which it uses one; None: everything runs on the cores."""


@dataclass(frozen=True)
class CapacityPlan:
    """The required resources. Nodes are alike and complete: each has its own pools, and a session's calls stay on its
    node."""

    nodes: int
    bound_by: str
    """The resource that determines the number of nodes."""
    nodes_for: dict[str, int]
    """Nodes that each resource alone would require."""
    cores: dict[str, float]
    """Busy cores by stage."""
    memory_gb: float
    """Memory of all nodes together."""
    gpus: int
    redis: dict[str, float]
    """shards, events_per_second, cores, memory_gb."""
    network_mbit: dict[str, float]
    """Mbit/s: audio in, events into Redis, events to each subscriber of all sessions."""
    assumptions: list[str] = field(default_factory=list)
    one_microphone: dict[str, float] = field(default_factory=dict)
    """nodes, cores, memory_gb that are only needed because some sessions have one microphone."""


def plan_capacity(demand: Demand, machines: Machines, costs: Costs) -> CapacityPlan:
    """Plan the machines for a demand. Raises UsageError for what was not measured or fits on no machine."""
    planned = _plan(demand, machines, costs)
    if not demand.one_microphone:
        return planned
    channels = _plan(replace(demand, one_microphone=0.0), machines, costs)
    added = {
        "nodes": planned.nodes - channels.nodes,
        "cores": round(sum(planned.cores.values()) - sum(channels.cores.values()), 2),
        "memory_gb": round(planned.memory_gb - channels.memory_gb, 1),
    }
    return replace(planned, one_microphone=added)


def _cores(demand: Demand, costs: Costs, rate: float) -> dict[str, float]:
    """Busy cores by stage. rate: utterances a second. Raises UsageError."""
    stages, shares = _stages(demand, costs), dict.fromkeys(ONE_MICROPHONE_STAGES, demand.one_microphone)
    running = {name: seconds for name, seconds in costs.running.items() if shares.get(name, 1.0)}
    cores = {name: demand.sessions * shares.get(name, 1.0) * seconds / 60 for name, seconds in running.items()}
    return cores | {name: rate * shares.get(name, 1.0) * costs.understanding[name] for name in stages}


def _plan(demand: Demand, machines: Machines, costs: Costs) -> CapacityPlan:
    rate = demand.sessions * (demand.utterances or costs.utterances) / 60  # utterances a second
    cores = _cores(demand, costs, rate)
    session_mb = costs.memory["session"] + demand.one_microphone * costs.memory.get("segmentation", 0.0)
    on_gpu = 0.0
    if machines.gpu is not None:
        of_texts = rate * TEXTS * machines.gpu.text if "text" in demand.modalities else 0.0
        on_gpu, cores = of_texts + rate * machines.gpu.step, cores | ({"text": of_texts} if of_texts else {})
    redis_cores = cores.pop("redis")

    pools = min(MAX_TRANSCRIBERS, max(1, machines.cores)) if demand.asr else 0
    encoders = encoders_of(machines.cores)
    fixed = sum(costs.memory[name] for name in ("ray", "recognizer")) + encoders * costs.memory["encoder"]
    fixed += pools * costs.memory.get(demand.asr or "", 0.0) + costs.memory["face"] * ("visual" in demand.modalities)
    room = 1000 * machines.memory * machines.utilisation - fixed  # MB of a node that sessions may take
    slots = math.floor(machines.cores / CPU_SHARE) - OTHER_ACTORS - pools - encoders
    if room < session_mb or slots < 1:
        raise UsageError(f"a node of {machines.cores} cores and {machines.memory:g} GB does not hold one session")
    used = machines.utilisation
    encoding = sum(cores.get(name, 0.0) for name in ENCODER_STAGES)
    nodes_for = {
        "cores": _up(sum(cores.values()) / (machines.cores * used)),
        "memory": _up(demand.sessions * session_mb / room),
        f"the encoders ({encoders} processes a node, one core each)": _up(encoding / (encoders * used)),
        "the recognizer (one process a node, one core)": _up(cores["graph"] / used),
        "Ray's places for actors": _up(demand.sessions / slots),
    }
    if demand.asr:
        nodes_for[f"words ({pools} processes a node, one core each)"] = _up(cores[demand.asr] / (pools * used))
    if "visual" in demand.modalities:
        nodes_for["faces (one process a node, one core)"] = _up(cores["visual"] / used)
    if machines.gpu is not None:
        nodes_for["the GPU (one a node)"] = _up(on_gpu / used)
    bound_by = max(nodes_for, key=nodes_for.__getitem__)
    nodes = nodes_for[bound_by]

    events = rate * costs.events
    retained_gb = events * min(3600 * demand.hours, RETENTION_S) * costs.kept_bytes / 1e9
    shards = max(_up(redis_cores / used), _up(retained_gb / (machines.memory * used)))
    payload = events * costs.event_bytes * 8 / 1e6
    return CapacityPlan(
        nodes=nodes,
        bound_by=bound_by,
        nodes_for=nodes_for,
        cores={name: round(count, 2) for name, count in cores.items()},
        memory_gb=round((nodes * fixed + demand.sessions * session_mb) / 1000, 1),
        gpus=nodes if machines.gpu else 0,
        redis={
            "shards": shards,
            "events_per_second": round(events, 1),
            "cores": round(redis_cores, 2),
            "memory_gb": round(retained_gb, 1),
        },
        network_mbit={
            "sound_in": round(demand.sessions * RATE * 16 / 1e6, 1),
            "events_to_redis": round(2 * payload, 1),
            "events_to_each_subscriber_of_all": round(payload, 1),
        },
        assumptions=_assumptions(demand, machines, costs, rate),
    )


def _up(count: float) -> int:
    return max(1, math.ceil(count - 1e-9))


def _stages(demand: Demand, costs: Costs) -> list[str]:
    """The stages that process each utterance. Raises UsageError."""
    known = [name for name in costs.understanding if name not in (*ENCODER_STAGES, "visual", "graph", "redis")]
    if demand.asr is not None and demand.asr not in known:
        raise UsageError(f"--asr: {demand.asr} was not measured, but {', '.join(['none', *known])}")
    unknown = set(demand.modalities) - {"text", "audio", "visual"}
    if unknown or not demand.modalities:
        raise UsageError(f"--modalities: of text, audio, visual, not {', '.join(sorted(unknown)) or 'nothing'}")
    if demand.asr and "text" not in demand.modalities:
        raise UsageError("--asr: words are recognized for the modality text, which is switched off")
    if demand.one_microphone and not {*costs.running, *costs.understanding}.issuperset(ONE_MICROPHONE_STAGES):
        raise UsageError(
            "--one-microphone: what such sessions cost was not measured; run undertone bench capacity again"
        )
    speaker = ["speaker"] if demand.one_microphone else []
    return [*demand.modalities, *speaker, *([demand.asr] if demand.asr else []), "graph", "redis"]


def _assumptions(demand: Demand, machines: Machines, costs: Costs, rate: float) -> list[str]:
    """The assumptions of the plan, a line each."""
    utterances = demand.utterances or costs.utterances
    held = ", ".join(f"{count} with words by {words}" for words, count in costs.held.items())
    lines = [
        f"Costs measured on {costs.machine}, {costs.cores} cores, {costs.taken[:10]}; it held in real time: {held}.",
        f"{utterances:g} utterances a minute and session ({costs.utterances:g} in the measured conversation): "
        f"{rate:,.0f} a second, each of about the same length as there.",
        f"CPU-seconds a minute and session: {_listed(costs.running)}; an utterance: {_listed(costs.understanding)}.",
        f"MB a process: {_listed(costs.memory)}. A session is a process.",
        f"{100 * machines.utilisation:.0f} % of cores, of each process and of memory are used; the rest is for peaks.",
        f"A node has {encoders_of(machines.cores)} encoders, one recognizer and one process for faces, which use one "
        f"core each, at most {MAX_TRANSCRIBERS} transcribers, and Ray admits {1 / CPU_SHARE:.0f} actors a core.",
        f"{costs.events:g} events an utterance, {costs.event_bytes:g} bytes each, {costs.kept_bytes:g} in Redis, which "
        f"keeps them for {RETENTION_S / 3600:g} h; {demand.hours:g} h a day at this load.",
        f"A Redis shard is one core and {machines.memory:g} GB, without a replica: "
        f"{_rate(costs, machines):,.0f} events a second.",
        f"Sound: one channel of 16 bit at {RATE // 1000} kHz a session. Gateways, proxies and replicas come on top.",
    ]
    if demand.one_microphone:
        lines.append(
            f"{100 * demand.one_microphone:g} % of the sessions have one microphone: for these segmentation, in the "
            f"session's process, and voices (speaker), in an encoder, and {costs.memory['segmentation']:g} MB more."
        )
    if "visual" in demand.modalities:
        lines.append("Faces: measured alone, on 30 pictures an utterance; what decoding video costs was not measured.")
    if (gpu := machines.gpu) is None:
        lines.append("No GPU (--gpu h100 reckons with one a node).")
    else:
        lines.append(
            f"With a GPU, reckoned from parts that were measured alone on {gpu.name}: each of {TEXTS} texts of an "
            f"utterance takes {1000 * gpu.text:.1f} ms of the GPU and of a core that waits; a step of the graph "
            f"{1e6 * gpu.step:.0f} µs of the GPU, while its process stays as busy as on a CPU. Whisper on a GPU was "
            "not measured: words are planned on cores, as are prosody, voices and faces."
        )
    return lines


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _rate(costs: Costs, machines: Machines) -> float:
    """Events a second that one Redis shard handles."""
    return machines.utilisation * costs.events / max(costs.understanding["redis"], 1e-9)


def rows_of(plan: CapacityPlan, machines: Machines) -> dict[str, Rows]:
    """The plan as tables, by title."""
    needed = {
        f"nodes of {machines.cores} cores and {machines.memory:g} GB": plan.nodes,
        "their cores": plan.nodes * machines.cores,
        "memory used, GB": plan.memory_gb,
        "GPUs": plan.gpus,
        "Redis shards": plan.redis["shards"],
        "Redis memory, GB": plan.redis["memory_gb"],
        "events a second": plan.redis["events_per_second"],
        "network: sound in, Mbit/s": plan.network_mbit["sound_in"],
        "network: events into Redis, Mbit/s": plan.network_mbit["events_to_redis"],
        "network: to each subscriber of all, Mbit/s": plan.network_mbit["events_to_each_subscriber_of_all"],
    }
    bounds = sorted(plan.nodes_for.items(), key=lambda bound: -bound[1])
    tables: dict[str, Rows] = {"Needed": [{"what": name, "": f"{count:,}"} for name, count in needed.items()]}
    if added := plan.one_microphone:
        more = {"nodes": added["nodes"], "cores kept busy": added["cores"], "memory used, GB": added["memory_gb"]}
        tables["For one microphone"] = [{"what": n, "": f"{count:,}"} for n, count in more.items()]
    return tables | {
        "Nodes that each need asks for": [{"for": name, "nodes": f"{count:,}"} for name, count in bounds],
        "Cores kept busy": [{"by": name, "cores": f"{count:,.1f}"} for name, count in plan.cores.items() if count],
    }
