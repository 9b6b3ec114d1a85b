"""Opening a session: its id, what is left when it does not start, its recording."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis

from stream.bus.keys import Keys
from stream.bus.spool import spool_path
from stream.events import SessionEnded
from stream.sources.file import FileSource
from stream.sources.recording import START, Recorder, read_settings
from tests.support.backend import LocalBackend
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from workers.errors import UsageError, WorkersError
from workers.session import opening
from workers.session.opening import OpenSession, open_session
from workers.session.services import InferenceBackend, ModelRequirements, SessionPlan
from workers.session.session import Session
from workers.session.settings import SessionSettings


class NoModelsError(WorkersError):
    """The models do not start."""


def start(plan: SessionPlan, needs: ModelRequirements) -> InferenceBackend:
    """Nothing is asked of models before a session runs."""
    return LocalBackend()


def fail(plan: SessionPlan, needs: ModelRequirements) -> InferenceBackend:
    raise NoModelsError(f"no models for {plan.session}")


@pytest.fixture
def session() -> str:
    return f"opened-{secrets.token_hex(4)}"


async def opened(redis_url: str, session: str, start_models: Any = start, **more: Any) -> OpenSession:
    settings = SessionSettings(transcript=DEMO_TRANSCRIPT, session=session)
    return await open_session(settings, FileSource(DEMO), start_models, redis_url, **more)


async def test_an_id_belongs_to_one_session(redis_url: str, session: str) -> None:
    first = await opened(redis_url, session)
    assert first.plan.session == session and first.observers() == []
    with pytest.raises(UsageError, match="is live, or was until a moment ago: choose another id$"):
        await opened(redis_url, session)
    await opened(redis_url, session, exclusive=False)


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ("ended", "has ended, and its events are kept in this Redis: `undertone forget ID` deletes it, or choose"),
        ("silent", "has not ended, and gives no sign of life: `undertone forget ID` deletes it, or choose another id"),
        ("state", "gives no sign of life: --resume goes on with it, `undertone forget ID` deletes it, or choose"),
        ("forgotten", "was deleted lately, and its process may live still: choose another id"),
    ],
)
async def test_a_taken_id_says_why_and_the_ways_out(
    redis_url: str, session: str, left: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(session)
    with sync_redis.Redis.from_url(redis_url) as client:
        if left == "forgotten":
            client.set(keys.forgotten, "1")
        else:
            client.xadd(keys.events, {"type": "session.ended" if left == "ended" else "emotion", "data": "{}"})
        if left == "state":

            async def resume_point(*_: object) -> object:
                return LocalBackend()

            monkeypatch.setattr("workers.session.opening.load_resume_point", resume_point)
        with pytest.raises(UsageError, match=re.escape(f"--session: session {session} ")) as refused:
            await opened(redis_url, session)
        assert told.replace("ID", session) in str(refused.value)
        client.delete(keys.events, keys.forgotten)


async def test_what_does_not_start_leaves_nothing(redis_url: str, session: str) -> None:
    with sync_redis.Redis.from_url(redis_url) as client:
        before = set(client.keys())
        for start_models, error in ((fail, NoModelsError), (lambda plan, needs: 1 / 0, ZeroDivisionError)):
            with pytest.raises(error):
                await opened(redis_url, session, start_models)
        assert not set(client.keys()) - before
    await opened(redis_url, session)


async def test_events_that_wait_on_this_disk_keep_their_id(redis_url: str, session: str) -> None:
    path = spool_path(session, "undertone")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(UsageError, match="undertone spool --send"):
        await opened(redis_url, session)
    path.unlink()


async def test_a_session_that_left_nothing(redis_url: str, session: str) -> None:
    with pytest.raises(UsageError, match=f"^--resume: no session '{session}' in this Redis; there are "):
        await opened(redis_url, session, resume="required")
    with sync_redis.Redis.from_url(redis_url) as client:
        for last, told in (("emotion", "has left nothing to go on from"), ("session.ended", "has ended")):
            client.xadd(Keys(session).events, {"type": last, "data": "{}"})
            with pytest.raises(UsageError, match=f"^--resume: session {session} {told}$"):
                await opened(redis_url, session, resume="required")
        client.delete(Keys(session).events)
    assert (await opened(redis_url, session, resume="if possible")).plan.session == session
    with sync_redis.Redis.from_url(redis_url) as client:
        assert not client.exists(Keys(session).alive), "its claim is the one of the process before"


async def test_a_recording_gets_a_folder_of_its_own(redis_url: str, session: str, tmp_path: Path) -> None:
    one = await opened(redis_url, session, record=tmp_path, speed=None)
    assert isinstance(one.source, Recorder) and one.observers() == [one.recorder] and one.plan.recorded
    kept = read_settings(tmp_path / session)
    assert (kept["interim"], kept["transcript"], kept["source"]) == (0.0, "transcript.stm", DEMO.name)
    two = await opened(redis_url, session, record=tmp_path, resume="if possible")
    assert two.recorder is not None and two.recorder.folder == tmp_path / f"{session}~2"
    for each in (one, two):
        close(each)


async def test_a_live_recording_that_goes_on_says_where_it_begins(
    redis_url: str, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def left(*given: object) -> object:
        return object()

    monkeypatch.setattr(opening, "_resume_point", left)
    monkeypatch.setattr(Session, "resume", lambda self, point, replayed: 12.5)
    for is_live, start_s in ((True, 12.5), (False, None)):  # a file is heard again from its beginning
        monkeypatch.setattr(FileSource, "live", is_live)
        one = await opened(redis_url, session, record=tmp_path, resume="if possible")
        assert one.recorder is not None and read_settings(one.recorder.folder).get(START) == start_s
        close(one)


def close(opened: OpenSession) -> None:
    """What its run would do at the end."""
    assert opened.recorder is not None
    opened.source.stop()
    assert not list(opened.source)
    name = opened.plan.session
    opened.recorder.event(
        SessionEnded(id=f"{name}:ended", session=name, reason="test", duration=0, utterances=0, failed=0, counts={})
    )
