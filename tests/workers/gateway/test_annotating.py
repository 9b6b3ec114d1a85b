"""Titles, tags, notes, corrections and rules over REST: a real server and Redis, without Ray."""

from __future__ import annotations

import pytest

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from tests.support.conversations import started
from tests.support.events import ended
from tests.support.gateway_here import door, finished

WRITTEN = "/sessions/been/annotations"
NOTHING = {"title": None, "tags": [], "notes": [], "corrections": [], "rules": []}
RULE = {"name": "glad", "emotion": "joy"}


async def labelled(redis: str, session: str) -> None:
    """A session that has been, with the labels neutral, joy and anger."""
    bus = Bus(redis, Keys(session))
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(started(id=f"{session}:started", session=session))
    bus.publish(ended(session))
    assert await bus.aclose()


async def test_what_is_written_can_be_read_listed_and_removed(redis_url: str) -> None:
    await finished(redis_url, "been")
    async with door(redis_url, scopes=("read", "edit")) as one:
        assert (await one.client.get(WRITTEN)).json() == NOTHING
        named = await one.client.patch("/sessions/been", json={"title": "Stand-up", "tags": ["team"]})
        assert named.status_code == 200 and named.json()["title"] == "Stand-up"
        note = await one.client.post("/sessions/been/notes", json={"time": 61.5, "text": "she laughs"})
        assert note.status_code == 201 and note.json()["author"] == "desk"
        assert (await one.client.get(WRITTEN)).json()["notes"] == [note.json()]
        listed = (await one.client.get("/sessions?limit=1000")).json()["sessions"]  # other tests have newer ones
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
            ("PUT", "/sessions/been/corrections/1", {"emotion": "joy"}),
            ("DELETE", "/sessions/been/corrections/1", None),
            ("PUT", "/sessions/been/rules", [RULE]),
        ):
            answer = await one.client.request(method, path, json=body)
            assert answer.status_code == 403 and answer.json()["detail"] == "token desk lacks the scope edit"
    async with door(redis_url, scopes=("edit",)) as one:
        assert (await one.client.get(WRITTEN)).status_code == 403


async def test_what_cannot_be_written_is_told_in_a_line(redis_url: str) -> None:
    await finished(redis_url, "been")
    async with door(redis_url) as one:
        for path in ("/sessions/absent", "/sessions/%7Ba%7D"):
            for method, part, body in (
                ("PATCH", "", {"title": "x"}),
                ("PUT", "/corrections/1", {"emotion": "joy"}),
                ("DELETE", "/corrections/1", None),
                ("PUT", "/rules", [RULE]),
            ):
                answer = await one.client.request(method, path + part, json=body)
                assert answer.status_code == 404 and "no session" in answer.json()["detail"]
        for method, path, body, told in (
            ("PATCH", "/sessions/been", {"title": "x" * 201}, "title: String should have at most 200 characters"),
            ("PATCH", "/sessions/been", {"tags": [""]}, "tags.0: String should have at least 1 character"),
            ("PATCH", "/sessions/been", {"name": "x"}, "name: Extra inputs are not permitted"),
            ("POST", "/sessions/been/notes", {"time": -1, "text": "x"}, "time: Input should be greater"),
            ("POST", "/sessions/been/notes", {"text": "x"}, "time: Field required"),
            ("PUT", "/sessions/been/corrections/1", {"emotion": " "}, "emotion: String should have at least 1 char"),
            ("PUT", "/sessions/been/corrections/1", {"emotion": "x" * 65}, "emotion: String should have at most 64"),
            ("PUT", "/sessions/been/corrections/-1", {"emotion": "joy"}, "utterance: Input should be greater"),
            ("PUT", f"/sessions/been/corrections/{1 << 31}", {"emotion": "joy"}, "utterance: Input should be less"),
            ("DELETE", "/sessions/been/corrections/x", None, "utterance: Input should be a valid integer"),
            ("PUT", "/sessions/been/rules", [RULE, RULE | {"emotion": "x"}], "rule 2 ('glad'): another rule has the"),
            ("PUT", "/sessions/been/rules", [RULE | {"abov": 0.5}], "0.abov: Extra inputs are not permitted"),
            ("PUT", "/sessions/been/rules", [RULE | {"above": "0.5"}], "0.above: Input should be a valid number"),
            ("PUT", "/sessions/been/rules", [RULE | {"name": str(n)} for n in range(21)], ": List should have at most"),
            ("PUT", "/sessions/been/rules", RULE, ": Input should be a valid list"),
        ):
            answer = await one.client.request(method, path, json=body)
            assert answer.status_code == 422 and answer.json()["detail"].startswith(told), answer.text
        assert (await one.client.get(WRITTEN)).json() == NOTHING


async def test_wrong_labels_are_corrected_and_corrections_removed(redis_url: str) -> None:
    await labelled(redis_url, "labelled")
    path, written = "/sessions/labelled/corrections", "/sessions/labelled/annotations"
    async with door(redis_url, scopes=("read", "edit")) as one:
        late = await one.client.put(f"{path}/7", json={"emotion": "joy", "was": "anger"})
        assert late.status_code == 200, late.text
        assert late.json().items() >= {"utterance": 7, "emotion": "joy", "was": "anger", "author": "desk"}.items()
        early = await one.client.put(f"{path}/2", json={"emotion": "anger", "was": None})
        assert (await one.client.get(written)).json()["corrections"] == [early.json(), late.json()]
        refused = await one.client.put(f"{path}/2", json={"emotion": "bored"})
        told = "emotion: session labelled has no label 'bored'; it has neutral, joy, anger"
        assert (refused.status_code, refused.json()["detail"]) == (422, told)
        assert (await one.client.delete(f"{path}/7")).status_code == 204
        again = await one.client.delete(f"{path}/7")
        assert (again.status_code, again.json()["detail"]) == (404, "session labelled has no correction of utterance 7")
        exported = (await one.client.get("/sessions/labelled/export/jsonl")).text
        assert '"was"' not in exported and len(exported.splitlines()) == 2
        assert (await one.client.delete(f"{path}/2")).status_code == 204


async def test_rules_of_a_session_are_written_with_whole_numbers_too(redis_url: str) -> None:
    await finished(redis_url, "been")
    async with door(redis_url, scopes=("read", "edit")) as one:
        whole = RULE | {"speaker": "customer*", "above": 0, "utterances": 2, "cooldown": 60, "certain": True}
        answer = await one.client.put("/sessions/been/rules", json=[RULE | {"name": "any"}, whole])
        assert answer.status_code == 200, answer.text
        defaults = {"speaker": "*", "above": 0.0, "utterances": 1, "cooldown": 60.0, "certain": False}
        assert answer.json() == [{"name": "any", "emotion": "joy", **defaults}, whole]
        assert (await one.client.get(WRITTEN)).json()["rules"] == answer.json()
        assert (await one.client.put("/sessions/been/rules", json=[])).json() == []
        assert (await one.client.get(WRITTEN)).json() == NOTHING
