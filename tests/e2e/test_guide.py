"""README and guide, top to bottom, as printed, on a piece of the demo conversation: one Redis and one Ray for all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.commands import UNDERTONE, here
from tests.support.gateways import Gateway, gateways
from tests.support.pages import PAGES, Block, blocks, lines
from tests.support.paths import DEMO_TRANSCRIPT, DEPLOY
from tests.support.recordings import write_mp4, write_wav

SECONDS = 8.4  # of the demo conversation: an utterance of each speaker
RATE = 16_000
STARTS_RAY = ("replay", "live", "serve")
PORT = "8765"  # as pages print it
JOINING = """
undertone() {
    case "$1" in
        replay | live) command undertone "$@" --ray-address "$JOINED" ;;
        token) command undertone "$@" --port "$SERVED" ;;
        *) command undertone "$@" ;;
    esac
}
"""
"""For bash: the shared Ray, and the gateway of the test."""


@dataclass
class Reader:
    """Somebody who types what the pages print, in a folder with the files that they name."""

    folder: Path
    redis: str
    ray: str
    running: ExitStack
    gateway: Gateway | None = None
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        path = f"{Path(UNDERTONE).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {"JOINED": self.ray, "PATH": path}

    def follow(self, block: Block) -> None:
        """Do what a block says; its commands end with 0."""
        if block.language == "python":  # in this process, where models are loaded once for all
            exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})  # noqa: S102
        elif block.note == "serve":
            options = ("--ray-address", self.ray, "--redis", self.redis)
            (self.gateway,) = self.running.enter_context(gateways(self.folder, 1, *options, invited=True))
        elif any(re.search(r"[|<>&$]", line) or not line.startswith("undertone ") for line in lines(block)):
            port = str(self.gateway.port) if self.gateway else PORT
            script = f"set -euo pipefail{JOINING}{block.text.replace(PORT, port)}"
            self.program(block, "bash", "-c", script, SERVED=port)
        else:
            for line in lines(block):
                self.command(block, line.partition("  #")[0].split()[1:])

    def command(self, block: Block, words: list[str]) -> None:
        """A command of ours; one that starts no Ray in this process, which has imported most of it already."""
        if words[0] in STARTS_RAY:
            self.program(block, UNDERTONE, *words, "--ray-address", self.ray)
        else:
            done = here(*words)
            assert done.returncode == 0, f"{block}: {' '.join(words)}\n{done.stdout}{done.stderr}"

    def program(self, block: Block, *command: str, **environment: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block}: {command[-1]}\n{done.stdout}{done.stderr}"


def write_files(folder: Path, conversation: NDArray[np.float32]) -> None:
    """What the pages name: recordings of the demo conversation, its words, its turns, rules."""
    call = conversation[:, : int(SECONDS * RATE)]
    write_wav(folder / "call.wav", call)
    write_mp4(folder / "call.mp4", call.mean(0, keepdims=True), SECONDS)
    write_wav(folder / "mara.wav", conversation[:1, : 30 * RATE])
    said = [line.split(maxsplit=5) for line in DEMO_TRANSCRIPT.read_text().splitlines()]
    said = [fields for fields in said if float(fields[4]) <= SECONDS]
    (folder / "call.stm").write_text("".join(f"{' '.join(fields)}\n" for fields in said))
    turns = [(float(start), float(end) - float(start), name) for _, _, name, start, end, _ in said]
    rttm = "".join(f"SPEAKER call 1 {start} {long:.2f} <NA> <NA> {name} <NA> <NA>\n" for start, long, name in turns)
    (folder / "turns.rttm").write_text(rttm)
    shutil.copy(DEPLOY / "examples" / "rules.toml", folder)


@pytest.fixture(scope="module")
def reader(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str, demo_audio: NDArray[np.float32]
) -> Iterator[Reader]:
    """Somebody who has done what README says: the session `call` is there."""
    redis_url = redis_url.removesuffix("/0") + "/8"  # other tests have sessions of these names
    folder = tmp_path_factory.mktemp("guide")
    write_files(folder, demo_audio)
    with ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNDERTONE_REDIS", redis_url)
        reader = Reader(folder, redis_url, ray_address, running)
        for block in to_run(PAGES[0]):
            reader.follow(block)
        yield reader


def to_run(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.is_run and block.language in ("sh", "python")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_do_as_printed(page: Path, reader: Reader) -> None:
    if page != PAGES[0]:  # which the fixture has followed
        for block in to_run(page):
            reader.follow(block)
    if page.name == "README.md":
        assert (reader.folder / "call.vtt").read_text().startswith("WEBVTT")
    if page.name == "exports.md":
        assert len(list(reader.folder.glob("call.*"))) >= 11  # recordings, words and exports
    if page.name == "service.md":
        assert "scopes" in (reader.folder / "tokens.toml").read_text()
        assert '"sent"' in here("sessions", "--json").stdout
