"""Requests of running sessions on disk: what a restarted session finds, who may read it, and when it goes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.bus.forget import find_files
from stream.bus.running import Home, this_process
from stream.bus.spool import request_path, spool_folder
from workers.cluster import request_files
from workers.cluster.actors import ClusterError
from workers.cluster.forget_nodes import drop_everywhere, forget_on_nodes, sweep_nodes
from workers.cluster.request import MediaFile, Options, Place, Push, Track, Upload, Url
from workers.cluster.request_files import MAX_HELD_BYTES, STARTING_S, ServedRequest, drop, hold, load, sweep

CONTENT = os.urandom(300_000) + b"\n{}\n"
OPTIONS = Options.model_validate({"consent": "both agreed", "id": "call", "record": True, "interim": 0})
PLACE = Place("redis://:secret@127.0.0.1:1/0", "held", Path("/records"), None, None, frozenset({"10.0.0.0/8"}), 60)


@pytest.fixture
def folder(ray_address: str) -> Iterator[Path]:
    """The spool folder of the Ray node's processes; ours, too, until a test has another one."""
    found = spool_folder()
    yield found
    if found.is_dir():
        for path in found.glob("held.*"):
            path.unlink()


def request(session: str = "call", content: bytes = CONTENT) -> ServedRequest:
    return ServedRequest(session, OPTIONS, Upload("a.wav", content, None), PLACE, this_process("desk", "n"))


def test_what_was_asked_is_found_again(folder: Path) -> None:
    sources = [
        Upload("a.wav", CONTENT, 2.0),
        Upload("a.mkv", CONTENT, None, "all"),
        Upload("a.mkv", CONTENT, None, 2),
        Push(kind="push", tracks=[Track(name="Mara", video=True)]),
        Url(kind="url", url="rtsp://user:password@10.0.0.7/"),
        MediaFile(kind="file", name="a.opus", speed=None),
    ]
    for source in sources:
        asked = ServedRequest("call", OPTIONS, source, PLACE, this_process("desk", "n"))
        assert len(hold(asked)) == 1
        assert load(asked.keys, []) == asked
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in folder.glob("held.*")] == [0o600]
    path = request_path("call", "held")
    assert find_files(asked.keys) == [path]
    drop(asked.keys, [])
    assert not path.exists() and load(asked.keys, []) is None
    path.write_bytes(b"nonsense")
    assert load(asked.keys, []) is None


def test_the_node_holds_what_a_gateway_of_another_user_was_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one that was started with another folder for its state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asked = request()
    (node,) = hold(asked)
    held = folder / "held.call.request"
    assert held.stat().st_mode & 0o777 == 0o600 and spool_folder() != folder and not spool_folder().exists()
    assert held.read_bytes() == b"".join(request_files._read_from(node, asked.keys))
    os.utime(held, (0, 0))
    assert sweep_nodes("held") == 1 and not held.exists(), "what nobody has removed goes from there"
    hold(asked)
    ((removed, left),) = asyncio.run(forget_on_nodes(asked.keys, []))
    assert (removed, left) == ([held], []) and not held.exists()
    hold(asked)
    drop_everywhere(asked.keys)
    assert not held.exists()


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    hold(request("one"))
    with request_path("one", "held").open("r+b") as file:
        file.truncate(MAX_HELD_BYTES - 1000)  # with a hole in it
    with pytest.raises(ClusterError, match="are held for running sessions; try again"):
        hold(request("two"))
    drop(request("one").keys, [])
    hold(request("two"))
    aside = folder.rename(tmp_path / "aside")
    folder.write_text("")
    try:
        with pytest.raises(ClusterError, match="cannot be held on disk"):
            hold(request("three"))
    finally:
        folder.unlink()
        aside.rename(folder)


def test_what_is_over_goes(folder: Path) -> None:
    """Once that is proved, or after a month where nobody can prove it; never while its session lives."""
    answers: dict[str, bool | None] = {"lives": True, "is-over": False, "old": None, "unknown": None, "starts": False}
    for session in answers:
        hold(request(session, b"x"))
        age = 31 * 86_400 if session in ("old", "lives") else 0 if session == "starts" else STARTING_S + 1
        os.utime(request_path(session, "held"), (time.time() - age,) * 2)
    (folder / "held.cut.part").write_text("half")
    os.utime(folder / "held.cut.part", (0, 0))

    def is_there(session: str, home: Home) -> bool | None:
        assert home == this_process("desk", "n")
        return answers[session]

    assert sweep("another", is_there) == 1, "a part has no session"
    assert sweep("held", is_there) == 2 and sweep("held", is_there) == 0
    assert {path.name for path in folder.glob("held.*")} == {
        f"held.{name}.request" for name in ("lives", "unknown", "starts")
    }
