"""A target in a process of its own, so that what kills it, or never ends, is seen and counted."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import atheris
import psutil

from tests.fuzz.target import Target, outcome, run, settled, where

BLOCK = 250  # inputs of one run of Hypothesis, whose own memory grows with them
LIMIT = 30.0  # seconds that one input may take
SAID = ("given", "stderr")  # files of the process: the present input, and what native code printed
SLOW = 3.0  # seconds after which an input is worth a look, and kept
WARM = 0.2  # of the inputs, before memory is first measured
BOUND = 32.0  # MB by which memory may have grown from then on
HELD = {"sockets": 128.0}  # there, 16 tracks may each hold 30 s of sound and up to 8 MB that waits to be heard


@dataclass
class Result:
    """What became of a target's inputs."""

    target: str
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    escaped: Counter[str] = field(default_factory=Counter)
    """Errors that nobody documented, by where they were raised."""
    crashes: int = 0
    hangs: int = 0
    slowest: float = 0.0
    memory: list[tuple[int, float]] = field(default_factory=list)
    """(inputs of this process so far, MB resident)"""
    seconds: float = 0.0
    also: str = ""

    @property
    def growth(self) -> float:
        """MB gained since the process was warm."""
        warm = [size for count, size in self.memory if count >= WARM * self.inputs]
        return warm[-1] - warm[0] if len(warm) > 1 else 0.0

    @property
    def sound(self) -> bool:
        return not (self.escaped or self.crashes or self.hangs) and self.growth <= HELD.get(self.target, BOUND)


def campaign(
    name: str, count: int, seed: int, guided: bool, kept: Path, shown: Callable[[Result], None], result: Result
) -> None:
    """Run a target over `count` inputs; those that break it are left in the folder `kept`."""
    began = time.monotonic()
    block = 0
    while result.inputs < count:
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm") as folder:
            ours, theirs = multiprocessing.Pipe(duplex=False)
            arguments = (name, count - result.inputs, seed, guided, block, Path(folder), theirs)
            worker = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
            worker.start()
            theirs.close()
            try:
                for what, value in messages(ours, worker):
                    note(result, what, value, Path(folder), kept)
                    block += what == "block"
                    result.seconds = time.monotonic() - began
                    shown(result)
                if worker.exitcode == 0:
                    break
            finally:
                worker.kill()
                worker.join()
        block += 1


def messages(ours: Connection, worker: Any) -> Iterator[tuple[str, Any]]:
    """What the process says, then how it ended if it did not end well."""
    patience = 600.0  # to start, on a busy machine
    while ours.poll(patience):
        try:
            yield ours.recv()
        except EOFError:
            worker.join()
            if worker.exitcode:
                yield "crash", worker.exitcode
            return
        patience = LIMIT
    yield "hang", patience


def note(result: Result, what: str, value: Any, folder: Path, kept: Path) -> None:
    """Enter a message of the process into the result."""
    match what:
        case "outcome":
            outcome_, seconds = value
            result.inputs += 1
            result.outcomes[outcome_] += 1
            result.slowest = max(result.slowest, seconds)
            if seconds > SLOW:
                keep(result, f"slow-{result.inputs}", folder, kept, f"{seconds:.1f} s")
        case "escaped":
            place, trace = value
            result.inputs += 1
            result.escaped[place] += 1
            if result.escaped[place] == 1:
                keep(result, f"escaped-{sum(result.escaped.values())}", folder, kept, trace)
        case "also":
            result.also = value
        case "memory":
            result.memory.append(value)
        case "crash" | "hang":
            result.inputs += 1
            result.memory.clear()
            if what == "crash":
                result.crashes += 1
            else:
                result.hangs += 1
            keep(result, f"{what}-{result.crashes + result.hangs}", folder, kept, f"{what} ({value})")


def keep(result: Result, name: str, folder: Path, kept: Path, trace: str) -> None:
    """Leave the present input and what it did."""
    kept.mkdir(parents=True, exist_ok=True)
    given, said = ((folder / part).read_text(errors="replace") if (folder / part).exists() else "" for part in SAID)
    (kept / f"{result.target}-{name}.txt").write_text(given)
    (kept / f"{result.target}-{name}.log").write_text(f"{trace}\n{said[-20_000:]}")


def work(name: str, count: int, seed: int, guided: bool, block: int, folder: Path, told: Connection) -> None:
    """The process: blocks of inputs until there were `count`; guided: by what of our code the earlier ones reached."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    strict()
    # What native code prints, libFuzzer's news among it, and where it was when it crashed.
    os.dup2(os.open(folder / "stderr", os.O_CREAT | os.O_WRONLY), 2)
    faulthandler.enable()
    (folder / "work").mkdir()
    with (
        atheris.instrument_imports(include=["stream", "model"]) if guided else nullcontext(),
        importlib.import_module(f"tests.fuzz.{name}").opened(folder / "work") as target,
    ):
        done = 0

        def each(given: Any) -> None:
            nonlocal done
            (folder / "given").write_text(repr(given))
            began = time.monotonic()
            try:
                told.send(("outcome", (outcome(target, given), time.monotonic() - began)))
            except Exception as error:
                told.send(("escaped", (where(error), traceback.format_exc())))
            done += 1
            if guided and done % BLOCK == 0:
                told.send(("memory", (done, resident(target))))

        if guided:
            options = [
                "",
                f"-runs={count}",
                f"-seed={seed + block + 1}",
                "-verbosity=0",
                "-max_len=4096",
                "-len_control=0",
            ]
            atheris.Setup(options, settled(target, count, seed, each).hypothesis.fuzz_one_input)
            atheris.Fuzz()  # ends the process
        while done < count:
            run(target, min(BLOCK, count - done), hash((seed, name_number(name), block)), each)
            told.send(("memory", (done, resident(target))))
            told.send(("block", block))
            told.send(("also", target.also()))
            block += 1


def name_number(name: str) -> int:
    """The same in every process, which `hash` of a text is not."""
    return int.from_bytes(name.encode(), "big")


def strict() -> None:
    """Warnings are errors, as in the test suite: on a user's terminal they would be noise."""
    warnings.simplefilter("error")
    for kind in (DeprecationWarning, FutureWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)


def resident(target: Target) -> float:
    """MB of memory that this process, or those that do the work for it, hold."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    processes = target.processes() or (psutil.Process().pid,)
    return sum(psutil.Process(number).memory_info().rss for number in processes) / (1 << 20)


def as_json(results: list[Result]) -> str:
    rows = [vars(result) | {"growth": result.growth, "sound": result.sound} for result in results]
    return json.dumps(rows, indent=1) + "\n"


def as_markdown(results: list[Result]) -> str:
    """A table, a line a target."""
    lines = [
        "| target | inputs | taken | refused | escaped | crashes | hangs | slowest | memory | time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        name = f"{each.target} ({each.also})" if each.also else each.target
        refused = ", ".join(f"{kind} {times:,}" for kind, times in each.outcomes.most_common() if kind != "taken")
        lines.append(
            f"| {name} | {each.inputs:,} | {each.outcomes['taken']:,} | {refused or '0'} | "
            f"{sum(each.escaped.values())} | {each.crashes} | {each.hangs} | {each.slowest:.2f} s | "
            f"{each.growth:+.1f} MB | {each.seconds:.0f} s |"
        )
    total = sum(each.inputs for each in results)
    lines.append(
        f"| **all** | **{total:,}** | {sum(each.outcomes['taken'] for each in results):,} | "
        f"{sum(sum(each.outcomes.values()) - each.outcomes['taken'] for each in results):,} | "
        f"{sum(sum(each.escaped.values()) for each in results)} | {sum(each.crashes for each in results)} | "
        f"{sum(each.hangs for each in results)} | | | {sum(each.seconds for each in results):.0f} s |"
    )
    return "\n".join(lines) + "\n"
