"""`undertone bench all`: run every benchmark, one after the other, into one file of results."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from model.progress import Progress
from workers.bench import DEMO
from workers.bench.report.results import Results, Tables
from workers.errors import WorkersError

Part = Callable[[Progress], Tables]


class Unavailable(WorkersError):
    """A requirement of a benchmark is missing on this machine."""


def run_all(parts: dict[str, Part], progress: Progress, save: Callable[[Results], object]) -> Results:
    """Run one benchmark after the other. `save` gets the results after each, so that an interruption loses only one.

    Each runs in its own process, so that loaded libraries and PyTorch's settings do not affect the next one.
    """
    from workers.bench.report.machine import describe, yardstick

    results: Results = {
        "schema": 1,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "parts": {},
    }
    for n, (name, part) in enumerate(parts.items(), 1):
        progress.tell(f"{n} of {len(parts)}: {name}")
        before, started = yardstick(), time.monotonic()
        outcome = _in_own_process(part, progress)
        seconds = round(time.monotonic() - started, 1)
        unit = round((before + yardstick()) / 2, 3)
        results["parts"][name] = {"seconds": seconds, "yardstick_ms": unit, **outcome}
        for state in {"skipped", "failed"} & set(outcome):
            progress.tell(f"{name} {state}: {outcome[state]}")
        save(results)
    return results


def _in_own_process(part: Part, progress: Progress) -> dict[str, Any]:
    """{"tables": …}, {"skipped": reason} or {"failed": reason}."""
    spawn = get_context("spawn")
    parent_end, child_end = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure, args=(part, child_end))
    process.start()
    child_end.close()
    try:
        while True:
            kind, *values = parent_end.recv()
            if kind == "outcome":
                return dict(values[0])
            getattr(progress, kind)(*values)
    except EOFError:
        process.join()
        return {"failed": f"its process ended with code {process.exitcode}"}
    except KeyboardInterrupt:
        if process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        parent_end.close()  # should it go on nevertheless, its next word of progress ends it
        process.join(60)
        process.kill()


class _Sent:
    """Implementation of `model.progress.Progress` that sends the reports through a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, message: str) -> None:
        self._pipe.send(("tell", message))

    def step(self, task: str, done: int, total: int) -> None:
        self._pipe.send(("step", task, done, total))

    def curve(self, name: str, values: dict[str, float], step: int) -> None:
        self._pipe.send(("curve", name, values, step))


def _measure(part: Part, pipe: Connection) -> None:
    """Run a benchmark in its own process and process group.

    The parent sends Ctrl-C, once, so that Ray and Redis end in order.
    """
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born ignoring it
    os.dup2(sys.stderr.fileno(), 1)  # stdout belongs to the results
    with suppress(BrokenPipeError, KeyboardInterrupt):
        pipe.send(("outcome", _outcome(part, _Sent(pipe))))


def _outcome(part: Part, progress: Progress) -> dict[str, Any]:
    try:
        return {"tables": part(progress)}
    except ModuleNotFoundError as error:
        return {"skipped": f"{error.name} is not installed"}
    except FileNotFoundError as error:
        return {"skipped": f"{error.filename}: {error.strerror}"}
    except Exception as error:
        if _missing(error):
            return {"skipped": str(error)}
        progress.tell(traceback.format_exc())
        return {"failed": f"{type(error).__name__}: {error}"}


def _missing(error: Exception) -> bool:
    """True for errors about a missing requirement. Imports late, so that the modules are in no benchmark's memory."""
    from model.encoders.asr import AsrError
    from stream.errors import MediaError
    from stream.speech.turns import AnnotationError

    return isinstance(error, Unavailable | MediaError | AnnotationError | AsrError)


def chosen(only: Iterable[str], without: Iterable[str]) -> dict[str, Part]:
    """The selected benchmarks by name (none given: all), in their order. Raises ValueError for unknown names."""
    only, without = list(only), list(without)
    for name in (*only, *without):
        if name not in PARTS:
            raise ValueError(f"no benchmark {name!r}; there are {', '.join(PARTS)}")
    return {name: part for name, part in PARTS.items() if name not in without and (name in only or not only)}


def _data() -> Path:
    folder = os.environ.get("UNDERTONE_DATA")
    if not folder:
        raise Unavailable("UNDERTONE_DATA is not set")
    return Path(folder)


def _vad(progress: Progress) -> Tables:
    from workers.bench.accuracy.vad import bench_vad

    return {"vad": bench_vad(_data() / "conversations")}


def _asr(progress: Progress) -> Tables:
    from workers.bench.accuracy.asr import bench_asr

    return {"asr": bench_asr(_data(), [], progress)}


def _windows(progress: Progress) -> Tables:
    from workers.bench.accuracy.asr import bench_windows

    rows, costs = bench_windows(_data(), [], progress)
    return {"windows": rows, "windows_cost": costs}


def _language(progress: Progress) -> Tables:
    from workers.bench.accuracy.language import bench_language

    return {"language": bench_language(_data(), progress)}


def _speakers(progress: Progress) -> Tables:
    from workers.bench.accuracy.speakers import bench_conditions, bench_nobody, bench_speakers, bench_voices
    from workers.bench.accuracy.wrong_names import bench_wrong_names

    return {
        "der": bench_speakers(_data() / "conversations", _data() / "librispeech", progress),
        "conditions": bench_conditions(_data(), progress),
        "nobody": bench_nobody(_data(), progress),
        "voices": bench_voices(_data() / "librispeech"),
        "wrong_names": bench_wrong_names(_data(), progress),
    }


def _speaker_grid(progress: Progress) -> Tables:
    from workers.bench.accuracy.speaker_grid import bench_speaker_grid

    return {"grid": bench_speaker_grid(_data(), progress)}


def _voice(progress: Progress) -> Tables:
    from workers.bench.accuracy.voice import bench_voice

    return {"voice": bench_voice(_data() / "ravdess", None, probes=False)}


def _sounds(progress: Progress) -> Tables:
    from workers.bench.accuracy.sounds import bench_sounds

    return {"sounds": bench_sounds(_data(), progress)}


def _faces(progress: Progress) -> Tables:
    from workers.bench.accuracy.faces import bench_faces

    return {"faces": bench_faces(_data() / "faces")}


def _endtoend(progress: Progress) -> Tables:
    from workers.bench.accuracy.endtoend import bench_endtoend

    return {"endtoend": bench_endtoend(_data() / "ravdess", [17, 18, 19, 20], None, 3, 0, progress)}


def _encoders(progress: Progress) -> Tables:
    from workers.bench.speed.encoders import bench_encoders

    return {"encoders": bench_encoders()}


def _latency(progress: Progress) -> Tables:
    from workers.bench.speed.latency import bench_latency
    from workers.bench.speed.words import words_by

    return {"latency": bench_latency(DEMO, words_by(("transcript", "whisper"), DEMO), progress)}


def _one_microphone(progress: Progress) -> Tables:
    from workers.bench.speed.latency import bench_one_microphone
    from workers.bench.speed.words import words_by

    words = [source for source in words_by(("whisper",), DEMO) if source.model == "base"]
    return {"one_microphone": bench_one_microphone(_data() / "librispeech", words, progress)}


def _lag(progress: Progress) -> Tables:
    from workers.bench.speed.latency import bench_lag

    whole, course = bench_lag(DEMO, 60.0, progress)
    return {"lag": whole, "lag_course": course}


def _ray(progress: Progress) -> Tables:
    from workers.bench.speed.ray_share import bench_ray

    return {"ray": bench_ray(DEMO, progress)}


def _startup(progress: Progress) -> Tables:
    from workers.bench.speed.startup import bench_startup

    return {"startup": bench_startup(DEMO, 5, progress)}


def _graph(progress: Progress) -> Tables:
    from workers.bench.speed.graph import bench_graph

    return {"graph": bench_graph(None, progress), "graph_256": bench_graph(256, progress)}


def _batching(progress: Progress) -> Tables:
    from workers.bench.speed.graph import bench_batching

    return {"batching": bench_batching(None, progress), "batching_256": bench_batching(256, progress)}


def _scale(progress: Progress) -> Tables:
    from workers.bench.speed.scale import Load, bench_scale

    costs, spread = bench_scale((1, 2, 4), Load(sessions=64, rate=100.0, seconds=20.0), progress)
    return {"scale": costs, "scale_spread": spread}


def _capacity(progress: Progress) -> Tables:
    from workers.bench.speed.capacity import bench_capacity
    from workers.bench.speed.words import NO_PARTIALS, words_by

    words = words_by(("transcript", "whisper"), DEMO)
    quiet = [source for source in words if source.model == "base"]
    words += [replace(source, name=f"{source.name}{NO_PARTIALS}", partials=False) for source in quiet]
    levels, costs = bench_capacity(DEMO, words, ("text", "audio"), 40.0, 64, progress)
    mixed = [source for source in words if source.given or source in quiet]
    more_levels, more_costs = bench_capacity(DEMO, mixed, ("text", "audio"), 40.0, 64, progress, one_microphone=True)
    return {"capacity": levels + more_levels, "capacity_costs": costs + more_costs}


def _throughput(progress: Progress) -> Tables:
    from workers.bench.speed.throughput import bench_throughput
    from workers.bench.speed.words import SOURCES, words_by

    rows, costs = bench_throughput(DEMO, words_by(SOURCES, DEMO), 10.0, ("text", "audio"), progress)
    return {"throughput": rows, "throughput_costs": costs}


def _longevity(progress: Progress) -> Tables:
    from workers.bench.speed.longevity import bench_longevity

    processes, whole = bench_longevity(DEMO, 12.0, ("text",), progress)
    return {"longevity": processes, "longevity_whole": whole}


PARTS: dict[str, Part] = {
    "vad": _vad,
    "asr": _asr,
    "windows": _windows,
    "language": _language,
    "speakers": _speakers,
    "speaker_grid": _speaker_grid,
    "voice": _voice,
    "sounds": _sounds,
    "faces": _faces,
    "endtoend": _endtoend,
    "encoders": _encoders,
    "startup": _startup,
    "latency": _latency,
    "one-microphone": _one_microphone,
    "ray": _ray,
    "graph": _graph,
    "batching": _batching,
    "scale": _scale,
    "capacity": _capacity,
    "throughput": _throughput,
    "longevity": _longevity,
    "lag": _lag,
}
"""Benchmarks in the order of the report. They are module functions, because they are pickled for another process; each
imports its modules when it is called."""
