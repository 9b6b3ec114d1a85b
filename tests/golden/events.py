"""Events as a client of any language sees them, JSON objects, and how those of two sessions differ."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.fusion.checkpoint import SHIPPED

Json = dict[str, Any]

VARIES = {"time", "checkpoint", "vad", "queue", "asr", "encode", "graph", "publish"}
"""Fields whose value differs from run to run or from machine to machine; their type does not."""
JUDGED = {"emotion", "sentiment", "uncertain", "probabilities", "contribution", "influences"}
HEARD = {"audio_start", "audio_end", "audio_time", "duration", "seconds", "text", "stable", "counts"}
"""With `JUDGED`: what depends on which sound arrived, and when."""
MAPS = {"contribution", "influences", "counts", "reasons"}
"""Objects whose keys are data."""
TIMES = {"audio_start", "audio_end", "audio_time", "duration", "start", "end"}
SECONDS, SHARE = 0.05, 0.02  # what another CPU may make of the same sound
CERTAIN_FROM = json.loads((SHIPPED / "meld" / "metrics.json").read_text(encoding="utf-8"))["certain_from"]
NEAR = 0.05  # two emotions, or two influences, of which another CPU may prefer the other


def read(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, events: Iterable[Json]) -> None:
    lines = (json.dumps(blank(event), ensure_ascii=False) for event in events)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def blank(value: Any, name: str = "") -> Any:
    """Without what varies."""
    if isinstance(value, dict):
        # An encoder's name is no latency.
        return {k: v if name == "encoders" else blank(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [blank(each) for each in value]
    return type(value)() if name in VARIES and value is not None else value


def certain(events: Iterable[Json]) -> list[Json]:
    """What every run of a session says, once: not what it says only where there is time, or a lack of it."""
    seen: dict[str, Json] = {}
    for event in events:
        if not _passing(event):
            seen.setdefault(event["id"], event)
    return list(seen.values())


def examples(events: Iterable[Json]) -> list[Json]:
    """One of each kind that is not certain."""
    return list({_kind(event): event for event in events if _passing(event)}.values())


def differences(got: Sequence[Json], golden: Sequence[Json], loose: Collection[str] = ()) -> list[str]:
    """Where the events differ. loose: further fields whose values may."""
    ids = [[event["id"] for event in events] for events in (got, golden)]
    if ids[0] != ids[1]:
        return [f"events {ids[0]}, not {ids[1]}"]
    return [line for a, b in zip(got, golden, strict=True) for line in _compared(a, b, b["id"], loose)]


def shape(value: Any, name: str = "") -> Any:
    """Names and types alone; of an id its form."""
    if isinstance(value, dict) and name not in MAPS:
        return {key: shape(each, key) for key, each in value.items()}
    if name == "id":
        return re.sub(r"\d+", "N", value)
    return value if name in ("type", "trigger", "revision") else type(value).__name__


def kinds(events: Iterable[Json]) -> set[str]:
    """Of those that are not certain."""
    return {_kind(event) for event in events if _passing(event)}


def strange(events: Iterable[Json], known: Iterable[Json]) -> list[str]:
    """Events that are not certain and look like none of those known of their kind; what is known of no kind passes."""
    shapes = {_kind(event): shape(event) for event in known}
    passing = [(_kind(event), event) for event in events if _passing(event)]
    return [json.dumps(event) for kind, event in passing if shape(event) != shapes.get(kind, shape(event))]


def _passing(event: Json) -> bool:
    return event["type"] in ("utterance.partial", "lag", "degraded") or event.get("trigger") == "interval"


def _kind(event: Json) -> str:
    return event.get("trigger", event["type"])


def _compared(got: Any, golden: Any, path: str, loose: Collection[str]) -> Iterator[str]:
    name = path.rpartition(".")[2]
    if type(got) is not type(golden):
        yield f"{path}: {got!r}, not {golden!r}"
    elif name in loose or (name in VARIES and ".encoders." not in path):
        if shape(got, name) != shape(golden, name):
            yield f"{path}: of another form: {got!r}, not {golden!r}"
    elif name == "influences":
        yield from _influences(got, golden, path)
    elif isinstance(golden, dict):
        if set(got) != set(golden):
            yield f"{path}: {sorted(got)}, not {sorted(golden)}"
        for key in golden:
            if key in got and not (key in JUDGED and _near(golden, key)):
                yield from _compared(got[key], golden[key], f"{path}.{key}", loose)
    elif isinstance(golden, list):
        if len(got) != len(golden):
            yield f"{path}: {got}, not {golden}"
        for n, (a, b) in enumerate(zip(got, golden, strict=False)):
            yield from _compared(a, b, f"{path}.{n}", loose)
    elif isinstance(golden, float):
        if got != pytest.approx(golden, abs=SECONDS if name in TIMES else SHARE):
            yield f"{path}: {got}, not {golden}"
    elif got != golden:
        yield f"{path}: {got!r}, not {golden!r}"


def _near(golden: Json, key: str) -> bool:
    """Whether another CPU may come to another label."""
    shares = sorted(golden.get("probabilities", {}).values(), reverse=True)
    if not shares:
        return False
    if key == "uncertain":
        return bool(abs(shares[0] - CERTAIN_FROM) <= 1.5 * SHARE)
    return key in ("emotion", "sentiment") and shares[0] - shares[1] <= NEAR


def _influences(got: Json, golden: Json, path: str) -> Iterator[str]:
    """The strongest are told of; one that is not has less than the least of those."""
    if len(got) != len(golden):
        yield f"{path}: {got}, not {golden}"
        return
    for number in {*got, *golden}:
        a, b = (told.get(number, min(told.values())) for told in (got, golden))
        if not number.isdecimal() or a != pytest.approx(b, abs=SHARE):
            yield f"{path}.{number}: {a}, not {b}"
