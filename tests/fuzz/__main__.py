"""`python -m tests.fuzz --inputs 100000 --seed 7`

Every target, and a table of what came of it; exit code 1 for findings."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.fuzz.campaign import Result, as_json, as_markdown, campaign, strict
from tests.fuzz.target import outcome

SHARES = {
    "media": 12, "transcripts": 12, "turns": 26, "events": 16, "tables": 14, "corpora": 12, "checkpoints": 3,
    "pushed": 2, "entries": 0.5, "rest": 2.2, "sockets": 1.5,
}  # fmt: skip
"""Targets, and how many of a hundred inputs each gets: the cheap ones more."""
GUIDED = ("transcripts", "turns", "tables", "corpora")
"""Those where the code that reads is ours, in Python."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, shared out to the targets")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--target", action="append", choices=SHARES, help="only this one; may be given again")
    parser.add_argument("--guided", action="store_true", help="by what of our code is reached (Atheris)")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="results, and inputs that broke something")
    parser.add_argument("--again", type=Path, help="a file of --out: that input once more, in this process")
    given = parser.parse_args()
    names = given.target or (list(GUIDED) if given.guided else list(SHARES))
    if given.again is not None:
        return again(names[0], given.again)
    console = Console(stderr=True)
    results: list[Result] = []
    console.print(f"seed {given.seed}")
    try:
        with console.status("") as status:
            for name in names:
                share = SHARES[name] / (sum(SHARES[each] for each in names))
                count = max(1, round(given.inputs * share))

                def shown(result: Result, count: int = count) -> None:
                    bad = sum(result.escaped.values()) + result.crashes + result.hangs
                    status.update(f"{result.target}: {result.inputs:,} of {count:,}, {bad} broke it")

                results.append(Result(f"{name}, guided" if given.guided else name))
                campaign(name, count, given.seed, given.guided, given.out, shown, results[-1])
                console.print(f"{name}: {results[-1].inputs:,} inputs, {'sound' if results[-1].sound else 'BROKEN'}")
    except KeyboardInterrupt:
        console.print("interrupted; so far:")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(as_json(results))
    (given.out / "results.md").write_text(as_markdown(results))
    print(as_markdown(results), end="")
    for result in results:
        for place, times in result.escaped.most_common():
            print(f"{result.target}: {times} x {place}")
    return 0 if all(result.sound for result in results) else 1


def again(name: str, file: Path) -> int:
    """An input that broke a target, with the whole traceback."""
    strict()
    opened = importlib.import_module(f"tests.fuzz.{name}").opened
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as target:
        print(outcome(target, ast.literal_eval(file.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
