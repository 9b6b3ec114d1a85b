"""Annotations of sessions over REST: title, tags, notes."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from stream.bus.annotations import Annotations, Change, NewNote, Note, add_note, change, read, remove_note
from stream.bus.keys import Keys
from workers.gateway.state import EditorDep, ReaderDep, State, StateDep, known

router = APIRouter(tags=["annotations"])


@router.get("/sessions/{session}/annotations")
async def written(session: str, state: StateDep, token: ReaderDep) -> Annotations:
    """Title, tags and notes of a session. They expire with its events; no event and no export has them."""
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


async def _keys(state: State, session: str) -> Keys:
    """The keys of a session that there is. Raises HTTPException (404)."""
    return Keys((await known(state, session)).id, state.settings.prefix)
