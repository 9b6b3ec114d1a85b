"""Streams of servers that others wrote: GStreamer's over RTSP, nginx's over RTMP."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from stream.errors import MediaError
from stream.sources.base import Source
from stream.sources.fetched import FetchedSource
from stream.sources.network import NetworkSource
from stream.sources.reach import Reach
from tests.support.recordings import RATE

SYSTEM_PYTHON = "/usr/bin/python3"
RTMP_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
WAYS: dict[str, Callable[[str], Source]] = {
    "named on the command line": NetworkSource,
    "named by a client": lambda url: FetchedSource(url, Reach(["127.0.0.1"])),
}


@pytest.fixture(params=WAYS)
def open_stream(request: pytest.FixtureRequest) -> Callable[[str], Source]:
    return WAYS[request.param]


@pytest.fixture(scope="module")
def rtsp() -> Iterator[str]:
    script = Path(__file__).parents[2] / "support" / "gst_rtsp_server.py"
    needed = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0')"
    if subprocess.run([SYSTEM_PYTHON, "-c", needed], capture_output=True, check=False).returncode:
        pytest.skip("GStreamer's RTSP server is not installed (deploy/install-system-packages.sh --all)")
    with subprocess.Popen([SYSTEM_PYTHON, str(script)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def take(source: Source, seconds: float) -> tuple[np.ndarray, int, list[str]]:
    """Some seconds of a stream: its samples, how many pictures, and what it says of itself."""
    parts, pictures, notices, length = [], 0, [], 0
    for block in source:
        parts.append(block.samples[0])
        pictures, length = pictures + len(block.frames), length + block.samples.shape[1]
        notices += [block.notice] if block.notice else []
        if length >= seconds * RATE:
            source.stop()
    return np.concatenate(parts), pictures, notices


def pitch(samples: np.ndarray) -> float:
    """The loudest frequency, in Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))) * RATE / len(samples)


@pytest.mark.parametrize(("path", "pictures"), [("talk", 0), ("film", 8)])
def test_rtsp(rtsp: str, open_stream: Callable[[str], Source], path: str, pictures: int) -> None:
    sound, seen, notices = take(open_stream(f"{rtsp}/{path}"), 2)
    assert pitch(sound) == pytest.approx(440, abs=5) and not notices
    assert seen >= pictures


def test_rtsp_wants_a_login(rtsp: str, open_stream: Callable[[str], Source]) -> None:
    with pytest.raises(MediaError, match=r"cannot be opened .*401"):
        take(open_stream(f"{rtsp}/talk".replace("anna:secret@", "")), 1)


def test_rtsp_whose_sound_ends(rtsp: str) -> None:
    sound, seen, notices = take(NetworkSource(f"{rtsp}/falls-silent"), 9)
    assert seen and "for 5 s no sound" in "".join(notices)
    assert len(sound) / RATE == pytest.approx(9, abs=0.1) and not sound[6 * RATE :].any()


@pytest.fixture(scope="module")
def rtmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None or not RTMP_MODULE.exists():
        pytest.skip("nginx with RTMP is not installed (deploy/install-system-packages.sh --all)")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(
        f"load_module {RTMP_MODULE};\ndaemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr error;\n"
        f"events {{}}\nrtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
    )
    with subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE
    ) as server:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"rtmp://127.0.0.1:{port}/live"
        finally:
            server.terminate()


def publish(url: str, seconds: float, stopping: threading.Event) -> None:
    """Send a tone of 440 Hz in real time."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)
    with av.open(url, "w", format="flv") as container:
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        began = time.monotonic()
        for first in range(0, len(tone) - 1023, 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, first : first + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, first
            container.mux(sound.encode(frame))
            if stopping.wait(max(0.0, began + first / RATE - time.monotonic())):
                return


def test_rtmp(rtmp: str, open_stream: Callable[[str], Source]) -> None:
    stopping = threading.Event()
    sender = threading.Thread(target=publish, args=(f"{rtmp}/talk", 30, stopping))
    sender.start()
    try:
        time.sleep(1)
        sound, _, notices = take(open_stream(f"{rtmp}/talk"), 2)
    finally:
        stopping.set()
        sender.join()
    assert pitch(sound) == pytest.approx(440, abs=5) and not notices
