"""Titles, tags and notes over REST: a real server and Redis, without Ray."""

from __future__ import annotations

import pytest

from tests.support.gateway_here import door, finished

WRITTEN = "/sessions/been/annotations"


async def test_what_is_written_can_be_read_listed_and_removed(redis_url: str) -> None:
    await finished(redis_url, "been")
    async with door(redis_url, scopes=("read", "edit")) as one:
        assert (await one.client.get(WRITTEN)).json() == {"title": None, "tags": [], "notes": []}
        named = await one.client.patch("/sessions/been", json={"title": "Stand-up", "tags": ["team"]})
        assert named.status_code == 200 and named.json()["title"] == "Stand-up"
        note = await one.client.post("/sessions/been/notes", json={"time": 61.5, "text": "she laughs"})
        assert note.status_code == 201 and note.json()["author"] == "desk"
        assert (await one.client.get(WRITTEN)).json()["notes"] == [note.json()]
        listed = (await one.client.get("/sessions")).json()["sessions"]
        assert [(info["title"], info["tags"]) for info in listed if info["id"] == "been"] == [("Stand-up", ["team"])]
        assert (await one.client.delete(f"/sessions/been/notes/{note.json()['id']}")).status_code == 204
        again = await one.client.delete(f"/sessions/been/notes/{note.json()['id']}")
        assert again.status_code == 404 and "has no note" in again.json()["detail"]
        exported = (await one.client.get("/sessions/been/export/jsonl")).text
        assert "Stand-up" not in exported and "she laughs" not in exported
        await one.client.patch("/sessions/been", json={"title": "", "tags": []})


@pytest.mark.parametrize("scopes", [("read",), ("read", "ingest")])
async def test_who_may_read_may_not_write(redis_url: str, scopes) -> None:
    await finished(redis_url, "been")
    async with door(redis_url, scopes=scopes) as one:
        assert (await one.client.get(WRITTEN)).status_code == 200
        for method, path, body in (
            ("PATCH", "/sessions/been", {"title": "mine"}),
            ("POST", "/sessions/been/notes", {"time": 0, "text": "mine"}),
            ("DELETE", "/sessions/been/notes/x", None),
        ):
            answer = await one.client.request(method, path, json=body)
            assert answer.status_code == 403 and answer.json()["detail"] == "token desk lacks the scope edit"
    async with door(redis_url, scopes=("edit",)) as one:
        assert (await one.client.get(WRITTEN)).status_code == 403


async def test_what_cannot_be_written_is_told_in_a_line(redis_url: str) -> None:
    await finished(redis_url, "been")
    async with door(redis_url) as one:
        for path in ("/sessions/absent", "/sessions/%7Ba%7D"):
            answer = await one.client.patch(path, json={"title": "x"})
            assert answer.status_code == 404 and "no session" in answer.json()["detail"]
        for method, path, body, told in (
            ("PATCH", "/sessions/been", {"title": "x" * 201}, "title: String should have at most 200 characters"),
            ("PATCH", "/sessions/been", {"tags": [""]}, "tags.0: String should have at least 1 character"),
            ("PATCH", "/sessions/been", {"name": "x"}, "name: Extra inputs are not permitted"),
            ("POST", "/sessions/been/notes", {"time": -1, "text": "x"}, "time: Input should be greater"),
            ("POST", "/sessions/been/notes", {"text": "x"}, "time: Field required"),
        ):
            answer = await one.client.request(method, path, json=body)
            assert answer.status_code == 422 and answer.json()["detail"].startswith(told), answer.text
        assert (await one.client.get(WRITTEN)).json() == {"title": None, "tags": [], "notes": []}
