"""Folders of the server: no event, answer, page, report, export or recording names them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet
import pytest
from playwright.sync_api import expect, sync_playwright

from model.encoders.asr import locate
from model.fusion.checkpoint import SHIPPED
from stream.exports import FORMATS
from tests.support.browsers import CHROMIUM, SLOW
from tests.support.commands import undertone
from tests.support.gateways import Gateway, gateways
from tests.support.paths import DEMO, DEMO_TRANSCRIPT

MARK = "geheim"
HEARD = {"consent": "synthetic voices", "interim": 0}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Path:
    """A folder of an odd name with a checkpoint, a speech recognizer, and media, good and bad."""
    folder = tmp_path_factory.mktemp("odd") / f"{MARK} it's (odd), {MARK}"
    media = folder / "media"
    media.mkdir(parents=True)
    shutil.copy(DEMO, media / "call.opus")
    shutil.copy(DEMO_TRANSCRIPT, media / "call.stm")
    (media / "noise.opus").write_bytes(b"no media " * 1000)
    (media / "empty.opus").touch()
    (media / "bad.stm").write_text("this is no transcript\n")
    (media / "bad.vtt").write_bytes(b"\xff\xfe\xff" * 9)
    (folder / "recordings").mkdir()
    shutil.copytree(SHIPPED / "meld", folder / "own")
    found = locate(tiny)
    assert found is not None
    (folder / "recognizer").mkdir()
    for file in Path(found.folder).iterdir():
        (folder / "recognizer" / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="module")
def gateway(odd: Path, redis_url: str, ray_address: str) -> Iterator[Gateway]:
    options = ["--redis", redis_url, "--ray-address", ray_address, "--prefix", "folders"]
    options += ["--media", str(odd / "media"), "--record", str(odd / "recordings")]
    with gateways(odd, 1, *options, "--asr-model", str(odd / "recognizer")) as (one,):
        yield one


@pytest.fixture(scope="module")
def replayed(odd: Path, redis_url: str, ray_address: str) -> str:
    """A session of a command, with a checkpoint of the user's own, recorded; what it printed."""
    asked = ["--transcript", odd / "media/call.stm", "--checkpoint", odd / "own", "--record", odd / "recordings"]
    where = ["--redis", redis_url, "--ray-address", ray_address, "--prefix", "folders", "--session", "command"]
    done = undertone("replay", odd / "media/call.opus", *asked, *where, "--speed", "max", "--json")
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_unnamed(found: str | bytes) -> None:
    text = found if isinstance(found, str) else found.decode("utf-8", "replace")
    assert MARK not in text, text[max(0, text.index(MARK) - 300) :][:600]


def test_events_and_recordings_of_a_command(odd: Path, replayed: str) -> None:
    assert_unnamed(replayed)
    started = json.loads(replayed.splitlines()[0])
    assert started["sources"] == ["call.opus"] and started["encoders"]["asr"] == "transcript call.stm"
    name, _, digits = started["checkpoint"].partition("@")
    assert name == "own" and len(digits) == 12
    for path in (odd / "recordings/command").iterdir():
        assert_unnamed(path.read_bytes())


def test_a_recording_with_a_checkpoint_of_one_s_own_asks_for_it(odd: Path, replayed: str, redis_url: str) -> None:
    done = undertone("replay", odd / "recordings/command", "--redis", redis_url)
    assert done.returncode == 2 and "is not Undertone's; to use it, add --checkpoint" in done.stderr


@pytest.mark.browser
def test_no_outlet_of_a_gateway_names_a_folder(odd: Path, gateway: Gateway, replayed: str) -> None:
    with httpx.Client(base_url=gateway.http, timeout=120) as client:
        file = {"kind": "file", "name": "call.opus", "speed": None}
        sources = {"words": file | {"transcript": "call.stm"}, "heard": file}
        for session, source in sources.items():
            started = client.post("/sessions", json=HEARD | {"id": session, "source": source, "record": True})
            assert started.status_code == 201, started.text
            assert_unnamed(started.text)
        for session in (*sources, "command"):
            events = client.get(f"/sessions/{session}/events").text
            assert "session.ended" in events
            assert_unnamed(events)
            assert_unnamed(client.get(f"/sessions/{session}").text)
            for name in FORMATS:
                answer = client.get(f"/sessions/{session}/export/{name}")
                assert answer.status_code == 200, answer.text
                assert_unnamed(answer.content)
                if name == "parquet":
                    assert_unnamed(str(pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist()))
        assert "faster-whisper recognizer" in client.get("/sessions/heard/export/html").text
        for path in ("/sessions", "/options", "/me", "/readyz", "/metrics", "/openapi.json", "/"):
            assert_unnamed(client.get(path).text)
        for wrong in (
            {"source": file | {"name": "noise.opus"}},
            {"source": file | {"name": "empty.opus"}},
            {"source": file | {"name": "absent.opus"}},
            {"source": file | {"track": 9}},
            {"source": file | {"transcript": "bad.stm"}},
            {"source": file | {"transcript": "bad.vtt"}},
            {"source": file, "checkpoint": "absent"},
            {"source": file, "language": "de"},
        ):
            answer = client.post("/sessions", json=HEARD | wrong)
            assert answer.status_code == 422, answer.text
            assert_unnamed(answer.text)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            for session in (*sources, "command"):
                page.goto(f"{gateway.http}/#session={session}")
                expect(page.locator("#session-state")).to_contain_text("ended", timeout=SLOW)
                expect(page.locator("#facts")).to_contain_text("@")
                assert_unnamed(page.content())
            browser.close()
        for session in sources:
            for path in (odd / "recordings" / session).iterdir():
                assert_unnamed(path.read_bytes())
            forgotten = client.delete(f"/sessions/{session}/data")
            assert forgotten.status_code == 200 and f"{session}/session.json" in forgotten.text, forgotten.text
            assert_unnamed(forgotten.text)
