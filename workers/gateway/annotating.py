"""Annotations of sessions over REST: title, tags, notes, corrected labels, alert rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from stream.bus.alert_rules import Rule
from stream.bus.annotations import (
    MAX_UTTERANCE,
    Annotations,
    Change,
    Correction,
    NewCorrection,
    NewNote,
    Note,
    Rules,
    add_note,
    change,
    correct,
    read,
    remove_correction,
    remove_note,
    set_rules,
)
from stream.bus.keys import Keys
from workers.gateway.state import EditorDep, ReaderDep, State, StateDep, known

router = APIRouter(tags=["annotations"])
UtterancePath = Annotated[int, Path(ge=0, le=MAX_UTTERANCE, description="Number of the utterance.")]


@router.get("/sessions/{session}/annotations")
async def written(session: str, state: StateDep, token: ReaderDep) -> Annotations:
    """Title, tags, notes, corrections and alert rules of a session. They expire with its events; no event and no export
    has them."""
    return await read(state.settings.redis, await _keys(state, session))


@router.patch("/sessions/{session}")
async def rename(session: str, wanted: Change, state: StateDep, token: EditorDep) -> Annotations:
    """Give a session another title or other tags (scope edit)."""
    return await change(state.settings.redis, await _keys(state, session), wanted)


@router.post("/sessions/{session}/notes", status_code=201, responses={409: {"description": "It has 1,000 notes"}})
async def write_note(session: str, new: NewNote, state: StateDep, token: EditorDep) -> Note:
    """Write a note at a moment of a session (scope edit)."""
    return await add_note(state.settings.redis, await _keys(state, session), new, token.name)


@router.delete("/sessions/{session}/notes/{note}", status_code=204)
async def delete_note(session: str, note: str, state: StateDep, token: EditorDep) -> None:
    """Remove a note (scope edit)."""
    if not await remove_note(state.settings.redis, await _keys(state, session), note):
        raise HTTPException(404, f"session {session} has no note {note[:64]!r}")


@router.put(
    "/sessions/{session}/corrections/{utterance}", responses={409: {"description": "It has 10,000 corrections"}}
)
async def write_correction(
    session: str, utterance: UtterancePath, new: NewCorrection, state: StateDep, token: EditorDep
) -> Correction:
    """Say which label of the session's an utterance should have (scope edit). The label itself stays as it is; what is
    said leaves by `undertone corrections` alone."""
    return await correct(state.settings.redis, await _keys(state, session), utterance, new, token.name)


@router.delete("/sessions/{session}/corrections/{utterance}", status_code=204)
async def delete_correction(session: str, utterance: UtterancePath, state: StateDep, token: EditorDep) -> None:
    """Remove a correction (scope edit)."""
    if not await remove_correction(state.settings.redis, await _keys(state, session), utterance):
        raise HTTPException(404, f"session {session} has no correction of utterance {utterance}")


@router.put("/sessions/{session}/rules")
async def write_rules(session: str, wanted: Rules, state: StateDep, token: EditorDep) -> list[Rule]:
    """Replace the alert rules of this session alone, at most 20 (scope edit). Who reads its events with `alerts=true`
    is told when one fits, from the next connection on."""
    return await set_rules(state.settings.redis, await _keys(state, session), wanted)


async def _keys(state: State, session: str) -> Keys:
    """The keys of a session that there is. Raises HTTPException (404)."""
    return Keys((await known(state, session)).id, state.settings.prefix)
