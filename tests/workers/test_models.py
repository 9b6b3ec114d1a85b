"""Downloads from a real server on loopback that breaks off, lies, and serves another file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model.manifest import Model, ModelFile, find, folders, manifest, wrong
from model.progress import Silent
from workers import models
from workers.models import DownloadError, pull

CONTENT = bytes(range(256)) * 2000
FILE = ModelFile("net.onnx", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "https://example.org/net.onnx")
MODEL = Model("net", "tests", "none", "https://example.org", (FILE,))


class Server:
    """What it serves, and how badly."""

    def __init__(self) -> None:
        self.content, self.breaks, self.ranges = CONTENT, 0, True
        self.status = 200
        self.asked: list[str | None] = []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            body = state.content[first:]
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.breaks:
                state.breaks -= 1
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("UNDERTONE_MODELS_URL", f"http://127.0.0.1:{http.server_address[1]}")
    monkeypatch.setattr(models, "PATIENCE", 0.01)
    yield state
    http.shutdown()
    http.server_close()


def test_a_download_that_breaks_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    folder = pull(MODEL, Silent(), tmp_path)
    assert (folder / "net.onnx").read_bytes() == CONTENT
    assert server.asked[0] is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.asked[1:] if asked]
    assert len(starts) == 2 and len(CONTENT) // 4 < starts[0] < starts[1]
    assert [path.name for path in folder.iterdir()] == ["net.onnx"]
    pull(MODEL, Silent(), tmp_path)
    assert len(server.asked) == 3  # what is there and right is not fetched again


def test_a_server_without_ranges_is_asked_from_the_start(server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = 1, False
    assert (pull(MODEL, Silent(), tmp_path) / "net.onnx").read_bytes() == CONTENT


def test_a_download_that_is_interrupted_for_good_can_be_taken_up(server: Server, tmp_path: Path) -> None:
    server.breaks = models.TRIES
    with pytest.raises(DownloadError, match=r"broke off|run the command again"):
        pull(MODEL, Silent(), tmp_path)
    assert not (tmp_path / "net" / "net.onnx").exists()
    server.asked.clear()
    pull(MODEL, Silent(), tmp_path)
    assert server.asked[0] is not None


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"more", b"<html>" + CONTENT[6:]])
def test_another_file_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(DownloadError, match="nothing was kept") as error:
        pull(MODEL, Silent(), tmp_path)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "net").iterdir()) == []


def test_a_shorter_file_than_promised_is_refused(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:1000]
    with pytest.raises(DownloadError, match=f"1000 of {len(CONTENT)} bytes"):
        pull(MODEL, Silent(), tmp_path)


def test_a_server_that_has_it_not(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DownloadError, match="404"):
        pull(MODEL, Silent(), tmp_path)


def test_the_local_folder_comes_first_and_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTONE_MODELS", str(tmp_path))
    assert folders()[0] == tmp_path and find(MODEL) is None
    (tmp_path / "net").mkdir()
    path = tmp_path / "net" / "net.onnx"
    path.write_bytes(CONTENT[:-1])
    assert find(MODEL) is None and "bytes instead of" in str(wrong(FILE, path))
    path.write_bytes(CONTENT[:-1] + b"x")
    assert find(MODEL) == tmp_path / "net" and "another file" in str(wrong(FILE, path))
    path.write_bytes(CONTENT)
    assert wrong(FILE, path) is None


@pytest.mark.data
def test_the_manifest_names_the_files_that_are_used(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTONE_MODELS", str(models))
    for model in manifest().values():
        folder = find(model)
        assert folder == models / model.name and model.licence and model.origin.startswith("https://")
        assert [wrong(file, folder / file.name) for file in model.files] == [None] * len(model.files)
