"""What earlier versions wrote is read by this one: files of tests/golden/written, which are never written anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stream.bus.spool import spool_folder
from stream.sources.file import FileSource
from stream.sources.recording import RecordedSource, read_events
from tests.golden import GOLDEN, WRITTEN, sessions, written
from tests.golden.events import JUDGED, Json, certain, differences, read
from tests.golden.sessions import Servers, stored
from tests.support.commands import UNDERTONE
from tests.support.recordings import voice, write_wav
from workers.cli.app import app
from workers.session import enrolment
from workers.session.planning import plan_session
from workers.session.settings import SessionSettings, settings_from_recording

pytestmark = pytest.mark.parametrize("version", sorted(WRITTEN.iterdir()), ids=lambda path: path.name)

ENDS = {"audio_end"}
"""Fields whose value may be another: before the high-pass, rumble after the last word was heard as part of it."""
LABELS = JUDGED
"""Likewise: the checkpoint `meld` was trained anew. That a killed session goes on with the same labels is shown by
tests/workers/session/test_snapshot.py and tests/e2e/test_wire.py."""


def renamed(events: Sequence[Json], session: str) -> list[Json]:
    """As another session would have published them."""
    old = events[0]["session"]
    return [{**event, "id": event["id"].replace(old, session, 1), "session": session} for event in events]


def said_now(events: Sequence[Json]) -> list[Json]:
    """As this version and earlier ones would both say it: without the folders that these told, with the device, which
    was the CPU, and the title and the agreement, of which there were none, without the reader, which `meld` had, and
    the voice, which another encoder heard and no event told."""
    told = [json.loads(json.dumps(event).replace("deploy/demo/", "")) for event in events]
    for event in told:
        if event["type"] == "session.started":
            event.setdefault("device", "cpu")
            event.setdefault("title", None)
            event.setdefault("agreement", None)
            event["encoders"]["text"] = event["encoders"]["text"].split("; expert: ")[0]
            event["encoders"]["audio"] = event["encoders"]["audio"].replace("voice CNN", "voice (WeSpeaker)")
        if event["type"] == "emotion":
            event.pop("voice", None)
    return told


def labels(events: Sequence[Json], revision: int) -> list[Json]:
    """Provisional or final labels; without those of utterances that still went on."""
    told = [event for event in events if event["type"] == "emotion" and event["trigger"] != "interval"]
    return [event for event in told if event["revision"] == revision]


@pytest.mark.parametrize("name", written.KILLED)
def test_a_killed_session_goes_on(version: Path, name: str, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    """Every utterance has one label and one final label in the end, and what was published before stays."""
    kept, session = json.loads((version / f"{name}.json").read_text()), f"written-{name}"
    written.put(redis_url, session, kept)
    given = [*written.options(name, tmp_path), "--speed", "max", "--resume"]
    sessions.run(sessions.command(Servers(redis_url, ray_address), "replay", session, *given))
    told = [json.loads(fields["event"]) for _, fields in stored(redis_url, f"undertone:{{{session}}}:events")]
    before = [json.loads(fields["event"]) for fields in kept["events"]]
    assert told[: len(before)] == before
    (goes_on,) = [event for event in told if event["type"] == "degraded"]
    assert goes_on["reason"].startswith("another process goes on from ")
    once, ended = certain(told), told[-1]
    assert (ended["type"], ended["reason"], ended["failed"]) == ("session.ended", "end of source", 0)
    assert ended["utterances"] > len(labels(before, 0)) > 0
    for revision in (0, 1):
        assert sorted(e["utterance"] for e in labels(once, revision)) == list(range(ended["utterances"]))
    assert len(labels(told, 0)) == len(labels(once, 0)), "what was labelled is not labelled again"
    assert {e["speaker"] for e in labels(before, 0)} <= {e["speaker"] for e in labels(once, 0)}
    if name == "killed":  # the same as if nothing had happened
        assert differences(said_now(once), renamed(said_now(read(GOLDEN / "file.jsonl")), session), ENDS | LABELS) == []


def test_a_recording_is_read(version: Path, tmp_path: Path) -> None:
    source = RecordedSource(version / "recording")
    wishes = settings_from_recording(source.settings, source.path)
    assert (wishes.modalities, wishes.transcript) == (("text", "audio"), version / "recording" / "transcript.csv")
    blocks = list(source)
    assert (source.channels, source.split, source.video, source.ended_early) == (1, False, True, None)
    samples = np.concatenate([block.samples for block in blocks], 1)
    assert samples.dtype == np.float32 and len(samples[0]) / 16_000 == pytest.approx(written.SAID, abs=0.1)
    frames = [frame for block in blocks for frame in block.frames]
    assert len(frames) == pytest.approx(10 * written.SAID, abs=1) and frames[0].image.shape == (48, 64, 3)
    assert [event.type for event in read_events(version / "recording")] == [
        "session.started", "utterance", "emotion", "emotion", "session.ended",
    ]  # fmt: skip


def test_a_recording_is_replayed(version: Path, redis_url: str, ray_address: str) -> None:
    """It hears again what it heard then."""
    options = ["--speed", "max", "--no-enrolled", "--json", "--redis", redis_url, "--ray-address", ray_address]
    again = sessions.run([UNDERTONE, "replay", str(version / "recording"), *options]).events
    before = renamed(read(version / "recording" / "events.jsonl"), again[0]["session"])
    assert differences(said_now(again[1:]), said_now(before[1:]), LABELS) == []  # the first names the source


def test_events_that_wait_are_sent(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    shutil.copytree(version / "waiting", spool_folder())
    session = "written-waiting"
    assert CliRunner().invoke(app, ["spool"]).output.startswith(f"{session}  ")
    sent = CliRunner().invoke(app, ["spool", "--send", "--redis", redis_url])
    assert sent.exit_code == 0 and f"{session}: 3 published" in sent.output
    assert list(spool_folder().iterdir()) == []
    told = [json.loads(fields["event"]) for _, fields in stored(redis_url, f"undertone:{{{session}}}:events")]
    file = read(GOLDEN / "file.jsonl")
    assert differences(said_now(told[-4:]), renamed(said_now([*file[:3], file[-1]]), session), ENDS | LABELS) == []
    left = written.left(redis_url, session)
    assert (left["state"], left["rows"]) == (None, []), "it has ended"


def test_an_enrolled_voice_of_another_encoder_is_named_as_such(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shutil.copytree(version / "voices", enrolment.folder())
    assert enrolment.voices() == {} and enrolment.outdated() == ["Ada"]
    recording = FileSource(write_wav(tmp_path / "call.wav", voice(1)[None]))
    plan = plan_session(SessionSettings(asr="none"), recording).plan
    assert plan.enrolled == {} and any("enroll them again: Ada" in note for note in plan.notes)
