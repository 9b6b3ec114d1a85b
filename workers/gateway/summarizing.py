"""Summaries of sessions over REST."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from stream.bus.alert_rules import AlertMonitor
from stream.bus.annotations import rules
from stream.bus.directory import SessionInfo
from stream.bus.keys import Keys
from stream.bus.recent import recent
from stream.exports.summary import Summary, summary
from workers.gateway.access import Token
from workers.gateway.state import ReaderDep, State, StateDep, known

MAX_LAST_S = 86_400.0
router = APIRouter(tags=["sessions"])


@router.get("/sessions/{session}/summary")
async def summarized(
    session: str,
    state: StateDep,
    token: ReaderDep,
    last: Annotated[
        float | None, Query(gt=0, le=MAX_LAST_S, description="Only the last so many seconds of media.")
    ] = None,
) -> Summary:
    """Summary of a session so far: speakers, emotions, strongest moments and changes, the quality of hearing, alerts.

    Of its last seconds no more than 2,000 events are read: `start` says how far back they reach.
    """
    info = await known(state, session)
    if last is None:
        return await state.summaries.get(info, lambda: _whole(state, token, info))
    keys = Keys(info.id, state.settings.prefix)
    events, covered = await recent(state.settings.redis, keys, last, info.duration)
    if not events:
        raise HTTPException(404, f"no session {session[:64]!r}")  # erased, or expired, since it was asked for
    found = await asyncio.to_thread(summary, events, covered, info.duration)
    monitor = AlertMonitor(await rules(state.settings.redis, keys))
    found.alerts = [alert for event in events for alert in monitor.alerts_for(event)]
    return found


async def _whole(state: State, token: Token, info: SessionInfo) -> Summary:
    with state.exports.taken(token):
        settings = state.settings
        return await state.exporter.summary(settings.redis, info.id, settings.prefix, info.duration)
