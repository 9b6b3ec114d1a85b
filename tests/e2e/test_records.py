"""Recorded sessions replayed, past events published again, sessions exported: by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import here, labels, undertone
from tests.support.paths import DEMO, DEMO_TRANSCRIPT


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> tuple[Path, list[dict]]:
    """A recording of the demo, and the events of the session."""
    folder = tmp_path_factory.mktemp("recordings")
    done = undertone(
        "replay", DEMO, "--transcript", DEMO_TRANSCRIPT, "--names", "Ann,Bob", "--interim", 0, "--speed", "max",
        "--json", "--record", folder, "--session", "kept", "--redis", redis_url, "--ray-address", ray_address,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "kept", lines(done.stdout)


def test_a_recording_replayed_gives_the_same_labels(
    recorded: tuple[Path, list[dict]], redis_url: str, ray_address: str
) -> None:
    folder, original = recorded
    assert original[0]["recorded"] is True
    again = undertone("replay", folder, "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address)
    assert again.returncode == 0, again.stderr
    replayed = lines(again.stdout)
    kept = ("speaker", "audio_start", "audio_end", "text", "probabilities", "influences")
    assert [[e[k] for k in kept] for e in labels(replayed)] == [[e[k] for k in kept] for e in labels(original)]
    assert replayed[0]["session"].startswith("kept-") and not replayed[0]["recorded"]
    # What the command line says goes before what was recorded.
    otherwise = undertone(
        "replay", folder, "--speed", "max", "--json", "--redact", "--modalities", "audio", "--redis", redis_url,
        "--ray-address", ray_address,
    )  # fmt: skip
    assert all(
        event["text"] is None and event["modalities"]["used"] == ["audio"] for event in labels(lines(otherwise.stdout))
    )


def test_past_events_are_published_again(recorded: tuple[Path, list[dict]], redis_url: str) -> None:
    """From the file and from Redis, under a new id, all else the same."""
    folder, original = recorded
    for source in (folder / "events.jsonl", "redis:kept"):
        again = here("replay", source, "--speed", "max", "--json", "--redis", redis_url)
        assert again.returncode == 0, again.stderr
        events = lines(again.stdout)
        session = events[0]["session"]
        assert session.startswith("kept-replay-")
        renamed = [e | {"session": session, "id": session + e["id"].removeprefix("kept")} for e in original]
        assert events == renamed
        watched = here("watch", session, "--json", "--redis", redis_url)
        assert lines(watched.stdout) == events
    taken = here("replay", folder / "events.jsonl", "--session", "kept", "--redis", redis_url)
    assert taken.returncode == 2 and "choose another id" in taken.stderr


def test_sessions_are_exported(recorded: tuple[Path, list[dict]], redis_url: str, tmp_path: Path) -> None:
    folder, original = recorded
    for source in ("kept", folder, folder / "events.jsonl"):
        done = here("export", source, "--format", "jsonl", "--redis", redis_url)
        assert lines(done.stdout) == original, done.stderr
    for kind in ("parquet", "elan", "html"):
        done = here("export", "kept", "-f", kind, "--out", tmp_path / f"out.{kind}", "--redis", redis_url)
        assert done.returncode == 0 and (tmp_path / f"out.{kind}").stat().st_size > 1000, done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("export", "absent"), "no session 'absent'"),
        (("export", "a{b}"), "letters, digits"),
        (("export", "kept", "--format", "wav"), "unknown format 'wav'"),
        (("replay", "redis:absent"), "no session 'absent'"),
        (("replay", "absent.jsonl"), "absent.jsonl: cannot be read"),
        (("replay", "/tmp"), "not a recording"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    recorded: tuple[Path, list[dict]], redis_url: str, arguments: tuple[str, ...], complaint: str
) -> None:
    done = here(*arguments, "--redis", redis_url)
    assert done.returncode in (1, 2) and complaint in done.stderr and "Traceback" not in done.stderr, done.stderr
