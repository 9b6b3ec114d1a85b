"""Opening a session: one way for the command line, the gateway's actors and programs.

    opened = await open_session(SessionSettings(asr="none"), FileSource(path), start_pools, "redis://localhost")
    outcome = await opened.run(observers)

Where the models run is the caller's choice: `workers.cluster.pools.start_pools` starts them in Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from redis.exceptions import RedisError

from stream.bus.connection import check_publishing, claim, release
from stream.bus.directory import no_session
from stream.bus.keys import PREFIX, Keys
from stream.bus.running import Home, state_of, taken
from stream.bus.spool import spool_path
from stream.sources.base import OffsetSource, Source
from stream.sources.file import played_file
from stream.sources.recording import Recorder, unused_folder
from workers.errors import UsageError
from workers.session.planning import plan_session
from workers.session.runner import EventObserver, Outcome, SessionError, new_session, run
from workers.session.services import InferenceBackend, ModelRequirements, SessionPlan
from workers.session.session import Session
from workers.session.settings import SessionSettings
from workers.session.snapshot import ResumePoint, load_resume_point
from workers.session.whole_recording import ListenedTo

StartModels = Callable[[SessionPlan, ModelRequirements], InferenceBackend]
Resume = Literal["no", "if possible", "required"]
"""if possible: begins anew when nothing was left, as after a process that was killed before its first snapshot."""


@dataclass(frozen=True)
class OpenSession:
    """A session that can run, and the source that it takes."""

    plan: SessionPlan
    session: Session
    source: Source
    speed: float | None
    recorder: Recorder | None

    def observers(self, more: Sequence[EventObserver] = ()) -> list[EventObserver]:
        """All that is shown the session's events: the recorder, which keeps them, and `more`."""
        return [*more, *([] if self.recorder is None else [self.recorder])]

    async def run(self, observers: Sequence[EventObserver] = (), listened_to: ListenedTo | None = None) -> Outcome:
        """Run the session to its end, or to Ctrl-C. listened_to: shown how far a first pass is. Raises SessionError."""
        return await run(self.session, self.source, self.speed, self.observers(observers), listened_to)


async def open_session(
    settings: SessionSettings,
    source: Source,
    start_models: StartModels,
    redis: str | None,
    prefix: str = PREFIX,
    *,
    speed: float | None = 1.0,
    paced: bool | None = None,
    record: Path | None = None,
    resume: Resume = "no",
    max_attempts: int | None = None,
    exclusive: bool = True,
    home: Home | None = None,
) -> OpenSession:
    """Plan a session, start its models, and resume it where an earlier process stopped.

    redis: None = its events stay in this process, and nobody can resume it. speed: of a recording, times real time;
    None = as fast as it goes. paced: the media come as they are recorded; None = those of a live source, or of a
    recording that has a speed. record: folder in which sound, pictures and events are kept, in a folder of their own.
    resume: continue the session that `settings` names. max_attempts: how often it may be resumed at the same place.
    exclusive: claim the id, and refuse one that is in use; False where the caller has claimed it. home: where the
    session lives; None = in this process.

    Where people on one channel of a file are told apart by voice, and it is played as fast as it goes, the session
    begins with a first pass over the whole of it.

    Raises UsageError, MediaError, AnnotationError, CheckpointError, AsrError, BusError, SessionError, and what
    `start_models` raises; then nothing is left in Redis.
    """
    settings = settings.at_pace(source.live or speed is not None if paced is None else paced)
    settings = settings.model_copy(update={"recorded": record is not None})
    planned = await asyncio.to_thread(plan_session, settings, source)
    plan, keys = planned.plan, Keys(planned.plan.session, prefix)
    point = None
    if redis is not None and resume != "no":
        point = await _resume_point(redis, keys, resume, max_attempts)
    elif redis is not None:
        await check_publishing(redis, keys)  # one that is resumed has events to spool meanwhile
    plan = plan if speed is not None else _with_first_pass(plan, source)
    if claimed := redis is not None and resume == "no" and exclusive:
        await _claim(redis, keys)
    try:
        models = start_models(plan, planned.needs)
        recorder = None
        if record is not None:
            folder = record / plan.session
            source = recorder = Recorder(
                source, folder if resume == "no" else unused_folder(folder), *settings.recording()
            )
        session = new_session(plan, models, redis, prefix, home)
    except BaseException:  # Ctrl-C, too
        if redis is not None and claimed:
            with suppress(RedisError, OSError):
                await release(redis, keys)
        raise
    if point is not None:
        position = session.resume(point, replayed=not source.live)
        if recorder is not None and source.live:
            recorder.begin_at(position)
        source = OffsetSource(source, position) if source.live else source
    return OpenSession(session.plan, session, source, speed, recorder)


def _with_first_pass(plan: SessionPlan, source: Source) -> SessionPlan:
    """The plan of a session that is played as fast as it goes: with a first pass, where that finds the speakers."""
    if plan.speakers != "cluster" or plan.vad != "pyannote" or played_file(source) is None:
        return plan
    encoders = plan.encoders | {"speaker": f"{plan.encoders['speaker']}, in a first pass"}
    return replace(plan, first_pass=True, encoders=encoders)


async def _resume_point(redis: str, keys: Keys, resume: Resume, max_attempts: int | None) -> ResumePoint | None:
    """The state that the session's last process left. Raises UsageError, SessionError."""
    point = await load_resume_point(redis, keys)
    if point is None and resume == "required":
        state = await state_of(redis, keys)
        if state in ("none", "forgotten"):
            raise UsageError(f"--resume: {await no_session(redis, keys.session, keys.prefix)}")
        ended = "has ended" if state == "ended" else "has left nothing to go on from"
        raise UsageError(f"--resume: session {keys.session} {ended}")
    if point is not None and max_attempts is not None and point.snapshot.tries >= max_attempts:
        raise SessionError(f"its process was killed {max_attempts + 1} times at the same place")
    return point


async def _claim(redis: str, keys: Keys) -> None:
    """Take the session's id. Raises UsageError when it is in use."""
    if spool_path(keys.session, keys.prefix).exists():
        raise UsageError(f"--session: events of {keys.session} wait on this disk (undertone spool --send)")
    if not await claim(redis, keys):
        raise await is_taken(redis, keys)


async def is_taken(redis: str, keys: Keys, may_resume: bool = True) -> UsageError:
    """The error for an id that another session has, with the ways out. may_resume: where that one can be gone on with,
    the caller can do so."""
    state = await state_of(redis, keys)
    ways = ["choose another id"]
    if state in ("ended", "silent"):
        ways = [f"`undertone forget {keys.session}` deletes it", *ways]
    if state == "silent" and may_resume and await load_resume_point(redis, keys) is not None:
        ways = ["--resume goes on with it", *ways]
    return UsageError(f"--session: {taken(keys, state)}: {', '.join(ways[:-1])}{', or ' if ways[1:] else ''}{ways[-1]}")
