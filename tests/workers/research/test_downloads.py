"""Downloads from a real server on loopback that breaks off, lies, and serves another file."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model.encoders.asr import AsrError, locate
from model.encoders.manifest import Model, ModelFile, find, folders, manifest, wrong
from model.progress import Silent
from stream.sources.file import FileSource
from tests.support.recordings import voice, write_wav
from workers.errors import UsageError
from workers.research import downloads as models
from workers.research.downloads import DownloadError, pull
from workers.session.planning import plan_session
from workers.session.settings import SessionSettings

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
    monkeypatch.setattr(models, "BACKOFF_S", 0.01)
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
    server.breaks = models.MAX_ATTEMPTS
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
    assert list(tmp_path.iterdir()) == []


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
    assert find(manifest()["speech_embedding"]) == models / "speech_embedding"
    for model in manifest().values():
        assert model.licence and model.origin.startswith("https://")
        assert all(file.url.startswith("https://") for file in model.files)


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any model, where packages carry none; returns the user's folder of models."""
    for variable in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    for variable in ("UNDERTONE_MODELS", "UNDERTONE_MODELS_URL", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("model.encoders.asr.unpacked", lambda model: None)
    monkeypatch.setattr(models, "unpacked", lambda model, into: None)
    return tmp_path / "undertone" / "models"


@pytest.fixture(scope="module")
def whole(base: str) -> Path:
    """The folder of a real model."""
    found = locate(base)
    assert found is not None
    return Path(found.folder)


class Hub(SimpleHTTPRequestHandler):
    """Serves the files of a folder as the Hugging Face hub does those of a model."""

    folder: Path

    def translate_path(self, path: str) -> str:
        assert path.startswith("/Systran/faster-whisper-base/resolve/")
        return str(self.folder / path.rpartition("/")[2])

    def log_message(self, *_: object) -> None:
        pass


def test_the_default_model_is_fetched_once(whole: Path, nothing_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real files, from a hub on loopback: shown while they come, checked, and there the next time."""
    Hub.folder = whole
    http = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{http.server_address[1]}")
    told = Told()
    found = models.find_or_pull_whisper(None, told)
    http.shutdown()
    http.server_close()
    assert found.name == "base" and found.folder == str(nothing_here / "faster-whisper-base")
    assert told.lines and "fetching base from http://127.0.0.1" in told.lines[0] and told.steps > 100
    known = manifest()["faster-whisper-base"]
    assert [wrong(file, Path(found.folder) / file.name) for file in known.files] == [None] * 4
    assert models.find_or_pull_whisper(None, told) == found == locate("base")


class Told(Silent):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def tell(self, message: str) -> None:
        self.lines.append(message)

    def step(self, task: str, done: int, total: int) -> None:
        self.steps += 1


@pytest.mark.parametrize("trouble", ["no network", "a hub that does not answer", "offline", "a hub without it"])
def test_without_a_hub_there_is_one_line_and_the_session_goes_on(
    nothing_here: Path, trouble: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        if trouble == "no network":
            deaf.close()
        elif trouble == "offline":
            monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(models, "READ_TIMEOUT_S", 0.3)
        size = "small" if trouble == "a hub without it" else None
        if size is None:
            models.fetch_recognizer(False, None)
            line = capsys.readouterr().err.splitlines()[-1]
            assert line.startswith("no words will be heard, voice and faces alone: ")
            assert "make install" in line
        with pytest.raises(DownloadError) as error:
            models.find_or_pull_whisper(size, Silent())
        assert "\n" not in str(error.value)
        with pytest.raises(DownloadError):
            models.fetch_recognizer(True, size)
        told = capsys.readouterr().err.splitlines()
        missing = "no faster-whisper model is here" if size is None else f"faster-whisper {size} is not here"
        assert all(line.startswith(f"{missing}: fetching") for line in told if "fetching" in line) and told
    assert not nothing_here.exists() or not list(nothing_here.iterdir()), "nothing is left of it"


def test_a_planned_session_says_why_it_hears_no_words(nothing_here: Path, tmp_path: Path) -> None:
    source = FileSource(write_wav(tmp_path / "call.wav", voice(1)[None]))
    planned = plan_session(SessionSettings(), source)
    assert planned.plan.encoders["asr"] is None and planned.needs.asr is None
    with pytest.raises(UsageError, match="undertone models pull base"):
        plan_session(SessionSettings(modalities=("text",)), source)
    with pytest.raises(AsrError, match="undertone models pull small"):
        plan_session(SessionSettings(asr_model="small"), source)
