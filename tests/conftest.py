"""Real servers, shared: one Redis, one Ray, and the development data where CI has them."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from tests.support.paths import DEMO, ROOT


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{variable}: {folder} is not there, and CI has it")
        pytest.skip(f"set {variable} to run the tests marked data")
    return folder


def recognizer(size: str) -> str:
    """A faster-whisper model that is on this machine."""
    from model.encoders.asr import locate

    if locate(size) is None:
        if os.environ.get("CI"):
            pytest.fail(f"faster-whisper {size} is not here, and CI has it (requirements-whisper*.lock)")
        pytest.skip(f"faster-whisper {size} is not here: undertone models pull {size}")
    return size


KINDS = ("unit", "integration", "e2e", "browser")
NO_UNITS = {"redis_url", "ray_address", "cluster", "data", "models", "tiny", "base"}  # fixtures: servers, large models
LONGEST = (
    "test_start.py", "test_benchmarks.py", "test_replay.py", "test_train.py", "test_gateway.py", "test_faults.py",
    "test_deepgram.py",
    "test_live.py", "test_agents.py", "test_tools.py", "test_actors.py", "test_gateway_security.py", "test_privacy.py",
    "test_cluster.py", "test_records.py", "test_seeing.py", "test_found.py", "test_short.py", "test_redis.py",
)  # fmt: skip
# Never at the same time: benchmarks take the whole machine, and a browser's microphone does not wait.
ALONE = {"test_benchmarks.py": "tests/e2e/page/test_start.py"}
PROCESSES = ("tests/chaos/", "tests/deploy/", "tests/fuzz/")  # folders whose tests start programs


def kind_of(item: pytest.Item) -> str:
    """The one of KINDS that a test is: as it is marked itself, else by its fixtures and its folder."""
    marked = [kind for kind in KINDS if item.get_closest_marker(kind)]
    if marked:
        return marked[0]
    fixtures, folder = set(getattr(item, "fixturenames", ())), item.nodeid
    if "browser" in fixtures:
        return "browser"
    if folder.startswith("tests/e2e/"):
        return "e2e"
    return "integration" if fixtures & NO_UNITS or folder.startswith(PROCESSES) else "unit"


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses among them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.get_closest_marker(kind := kind_of(item)):
            item.add_marker(kind)
    # Of several processes that share out the files, none shall be left with a long one at the end.
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)  # where pytest runs without xdist nobody knows this hook
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Shares out whole files, those of `ALONE` with another."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return ALONE.get(Path(file).name, file)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _units_start_no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that starts a program is no unit test: mark it `integration`."""
    _watched["unit"] = request.node.get_closest_marker("unit") is not None
    yield
    _watched["unit"] = False


_watched = {"unit": False}


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn") and _watched["unit"]:
        raise AssertionError(f"a unit test starts {arguments[:1]}: mark it integration")


sys.addaudithook(_refuse_processes)


# Started in the background we would ignore Ctrl-C, and so would every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """$UNDERTONE_DATA."""
    return _folder("UNDERTONE_DATA", "data")


@pytest.fixture(scope="session")
def models() -> Path:
    """$UNDERTONE_MODELS, set for what looks models up there (`model.encoders.manifest`)."""
    folder = _folder("UNDERTONE_MODELS", "models")
    os.environ.setdefault("UNDERTONE_MODELS", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny() -> str:
    """The small English Whisper, for tests of real words."""
    return recognizer("tiny.en")


@pytest.fixture(scope="session")
def base() -> str:
    """The Whisper that is the default."""
    return recognizer("base")


@pytest.fixture(scope="session", autouse=True)
def _no_state_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Events that wait for Redis wait in a folder of the tests, a Redis of one's own runs there, and no model is
    downloaded."""
    from stream.bus import own_server

    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    os.environ.pop("XDG_RUNTIME_DIR", None)
    os.environ["HF_HUB_OFFLINE"] = "1"  # no test fetches from the real hub
    yield
    own_server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A private Redis server."""
    from tests.support.redis_servers import private_server

    with private_server() as url:
        yield url


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """One Ray instance for all tests of this process; subprocesses join it."""
    import ray

    from workers.cluster.actors import ClusterError, ray_cluster

    with ExitStack() as running:
        with FileLock(
            Path(tempfile.gettempdir()) / "undertone-tests-ray.lock"
        ):  # it chooses ports that others may take
            try:
                running.enter_context(ray_cluster(None))
            except ClusterError:  # it waits for half a minute, which a busy machine may take
                running.enter_context(ray_cluster(None))
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="session")
def demo_audio() -> NDArray[np.float32]:
    """The demo conversation, [2, n] at 16 kHz."""
    from stream.sources.file import FileSource

    return np.concatenate([block.samples for block in FileSource(DEMO, "split")], 1)
