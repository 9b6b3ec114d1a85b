"""Media of a WebSocket on its way to the tracks of a session."""

from __future__ import annotations

from workers.gateway.feeding import Channels


def test_interleaved_channels_are_taken_apart_wherever_a_message_ends() -> None:
    channels, content = Channels(2), bytes(range(16))
    parts = [channels.split(piece) for piece in (content[:3], content[3:9], content[9:])]
    left, right = (b"".join(part[n] for part in parts) for n in range(2))
    assert left == bytes([0, 1, 4, 5, 8, 9, 12, 13]) and right == bytes([2, 3, 6, 7, 10, 11, 14, 15])
