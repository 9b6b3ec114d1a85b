"""Requests of running sessions on disk: what a restarted session finds, who may read it, and when it goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stream.bus.forget import find_files
from stream.bus.running import Home, this_process
from stream.bus.spool import request_path, spool_folder
from workers.cluster import request_files
from workers.cluster.actors import ClusterError
from workers.cluster.request import MediaFile, Options, Place, Push, Track, Upload, Url
from workers.cluster.request_files import STARTING_S, ServedRequest, drop, hold, load, sweep

CONTENT = os.urandom(300_000) + b"\n{}\n"
OPTIONS = Options.model_validate({"consent": "both agreed", "id": "call", "record": True, "interim": 0})
PLACE = Place("redis://:secret@127.0.0.1:1/0", "held", Path("/records"), None, None, frozenset({"10.0.0.0/8"}), 60)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return spool_folder()


def request(session: str = "call", content: bytes = CONTENT) -> ServedRequest:
    return ServedRequest(session, OPTIONS, Upload("a.wav", content, None), PLACE, this_process("desk", "n"))


def test_what_was_asked_is_found_again(ray_address: str, folder: Path) -> None:
    sources = [
        Upload("a.wav", CONTENT, 2.0),
        Push(kind="push", tracks=[Track(name="Mara", video=True)]),
        Url(kind="url", url="rtsp://user:password@10.0.0.7/"),
        MediaFile(kind="file", name="a.opus", speed=None),
    ]
    for source in sources:
        asked = ServedRequest("call", OPTIONS, source, PLACE, this_process("desk", "n"))
        assert len(hold(asked)) == 1
        assert load(asked.keys, []) == asked
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]
    path = request_path("call", "held")
    assert find_files(asked.keys) == [path]
    drop(asked.keys, [])
    assert not path.exists() and load(asked.keys, []) is None
    path.write_bytes(b"nonsense")
    assert load(asked.keys, []) is None


def test_what_does_not_fit_is_refused(
    ray_address: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_files, "MAX_HELD_BYTES", 500_000)
    hold(request("one"))
    with pytest.raises(ClusterError, match="are held for running sessions; try again"):
        hold(request("two"))
    drop(request("one").keys, [])
    hold(request("two"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ClusterError, match="cannot be held on disk"):
        hold(request("three"))


def test_what_is_over_goes(ray_address: str, folder: Path) -> None:
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
    assert {path.name for path in folder.iterdir()} == {
        f"held.{name}.request" for name in ("lives", "unknown", "starts")
    }
