"""Messages for people: one line, and for other machines without the folders of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream import events
from stream.errors import without_folders


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("/srv/odd one/call.wav: not a media file", "call.wav: not a media file"),
        ("error: a model does not load: /srv/a b/own: model.bin: missing; remove it", "error: a model does not load: "
         "own: model.bin: missing; remove it"),
        ("PermissionError: [Errno 13] Permission denied: '/srv/it, (is)/x'", "PermissionError: [Errno 13] Permission "
         "denied: 'x'"),
        ('FileNotFoundError: "/srv/it\'s/x"', 'FileNotFoundError: "x"'),
        ("cannot be read (~/calls/x.wav), nor [/a/b, /c/d]", "cannot be read (x.wav), nor [b, d]"),
        ("rtsp://host/live/1 is lost: nothing came; trying to reconnect",) * 2,
        ("16 kB/s and/or 1 / 2",) * 2,
    ],
)  # fmt: skip
def test_of_a_path_the_last_part_is_told(message: str, told: str) -> None:
    assert without_folders(message) == told


def test_folders_that_cannot_be_told_from_text_are_known() -> None:
    odd = Path("/srv/one: two, (three)")
    message = f"{odd}/media/call.wav: empty; {odd}/media: no folder"
    assert without_folders(message, [odd / "media"]) == "call.wav: empty; media: no folder"


def test_events_of_earlier_versions_lose_their_folders_when_they_are_read() -> None:
    started = events.SessionStarted(
        id="call:started", session="call", time="2026-01-01T00:00:00Z", channels="mixed",
        sources=["/srv/calls/call.wav", "rtsp://host/1"], speakers="cluster",
        encoders={"asr": "transcript /srv/calls/call.stm", "visual": None},
        checkpoint="/srv/checkpoints/meld", emotions=["joy"], redacted=False,
        consent="agreed to what /srv/calls/x says",
    )  # fmt: skip
    assert (started.sources, started.checkpoint) == (["call.wav", "rtsp://host/1"], "meld")
    assert started.encoders == {"asr": "transcript call.stm", "visual": None}
    assert started.consent == "agreed to what /srv/calls/x says"
    failed = events.SessionEnded(
        id="call:ended", session="call", reason="error: /srv/calls/call.wav: is empty", duration=0, utterances=0,
        failed=0, counts={},
    )  # fmt: skip
    assert failed.reason == "error: call.wav: is empty"
