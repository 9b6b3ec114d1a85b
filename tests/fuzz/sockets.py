"""WebSockets of a real gateway: sound that is none, text where bytes belong, frames that break the protocol."""

from __future__ import annotations

import itertools
import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import websockets
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from stream.block import RATE
from tests.fuzz.media import recording
from tests.fuzz.mutations import NASTY, mutated, values
from tests.fuzz.served import Served, served
from tests.fuzz.target import LONGEST, Refusal, Target, Wrong
from tests.support.recordings import voice

TRACKS = 16
AWAY = 4000  # a close code that, other than 1000, does not mean the end of the track
LARGEST = 1 << 20  # bytes of a message


def frame(opcode: int, payload: bytes, first: int = 0x80, mask: bool = True, size: int | None = None) -> bytes:
    """A frame as RFC 6455 has it, or not: any first bits, no mask, another size than it has."""
    claimed = len(payload) if size is None else size
    length = struct.pack("!BQ", 127 | 0x80 * mask, claimed % (1 << 64)) if claimed > 65535 else b""
    length = length or (
        struct.pack("!BH", 126 | 0x80 * mask, claimed) if claimed > 125 else bytes([claimed | 0x80 * mask])
    )
    return bytes([first | opcode]) + length + bytes(4 * mask) + payload


class Sessions:
    """A session of pushed tracks that goes on, and another when it has ended."""

    def __init__(self, there: Served) -> None:
        self._there, self._client = there, there.client
        self.sent = 0
        """Frames."""
        self.id = self._start()

    def _start(self) -> str:
        tracks = [{"name": f"p{n}", "video": True} for n in range(TRACKS)]
        body = {"consent": "nobody", "modalities": ["audio"], "asr": "none", "interim": 0}
        answer = self._client.post("/sessions", json=body | {"source": {"kind": "push", "tracks": tracks}})
        if answer.status_code != 201:
            raise Wrong(f"no session: {answer.text}")
        started = str(answer.json()["id"])
        sound = (voice(0.2) * 32767).astype("<i2").tobytes()
        for track in range(TRACKS):  # each has been heard once, so that nonsense later ends a connection, not the track
            with self.track(started, f"{track}?format=pcm&rate={RATE}") as connection:
                connection.recv()
                connection.send(sound)
                connection.close(AWAY)
        return started

    def track(self, session: str, where: str) -> ClientConnection:
        return connect(
            f"{self._there.gateway.ws}/sessions/{session}/tracks/{where}", close_timeout=0.5, max_size=None,
            additional_headers={"Authorization": f"Bearer {self._there.token}"}, compression=None,
            legacy=True,  # a connection that is closed by hand
        )  # fmt: skip

    def speak(self, connection: ClientConnection, frames: list[tuple[str, Any]]) -> None:
        """Send frames while the other end takes them. Raises Refusal with the close code when it does not."""
        try:
            told = json.loads(connection.recv(20))
            said = told.get("message", "ready")
            if not 0 < len(said) <= LONGEST or not said.isprintable():
                raise Wrong(f"what is no line: {told}")
            for kind, payload in frames:
                if kind == "raw":
                    connection.socket.sendall(payload)
                else:
                    connection.send(payload)
                self.sent += 1
            connection.close(AWAY)
        except (websockets.ConnectionClosed, OSError):
            pass
        except TimeoutError:
            raise Wrong("neither ready nor an error within 20 s") from None
        connection.close()
        if "no such session" in (connection.close_reason or ""):  # it has ended: nonsense may do that
            self.id = self._start()
        if "are waiting already" in (connection.close_reason or ""):
            time.sleep(0.5)  # as a sender would that is told so
        if connection.close_code != AWAY:
            raise Refusal(f"closed {connection.close_code}")


@contextmanager
def using(there: Served) -> Iterator[Target]:
    """`opened`, with a gateway that is there."""
    sessions, turns = Sessions(there), itertools.count()

    def take(given: tuple[int, str, list[tuple[str, Any]]]) -> None:
        track, query, frames = given
        if 0 <= track < TRACKS:  # each in its turn: nobody hears more than a connection a second
            track = next(turns) % TRACKS
        try:
            connection = sessions.track(sessions.id, f"{track}?{query}")
        except websockets.InvalidStatus as error:
            if error.response.status_code >= 500:
                raise Wrong(f"HTTP {error.response.status_code}") from None
            raise Refusal(f"HTTP {error.response.status_code}") from None
        try:
            sessions.speak(connection, frames)
        finally:
            there.check()

    sound = (voice(0.1) * 32767).astype("<i2").tobytes()
    noise = (np.random.default_rng(0).normal(0, 9000, RATE // 10)).astype("<i2").tobytes()
    good = [f"format=pcm&rate={RATE}", "format=webm", "format=pcm&rate=48000"]
    bad = ["format=pcm&rate=0", "rate=x", "format=mp3", "", "format=webm&rate=-1", "format=%00&rate=16000"]
    queries = st.sampled_from([*good * 50, *bad, *(f"format={quote(word)}" for word in NASTY)])
    pieces = mutated([sound, noise, recording("webm", "libopus")])
    opcodes = st.sampled_from([0, 1, 2, 8, 9, 10, 3, 11])
    raw = st.builds(
        frame, opcodes, st.binary(max_size=64) | pieces, st.sampled_from([0x80, 0x80, 0, 0xC0, 0xF0]), st.booleans(),
        st.sampled_from([None, None, 0, 126, 1 << 21, (1 << 63) + 5]),
    )  # fmt: skip
    frames = st.one_of(
        st.tuples(st.just("bytes"), pieces),
        st.tuples(st.just("text"), values.map(json.dumps) | st.sampled_from(['{"type": "end"}', "", "\x00" * 9])),
        st.tuples(st.just("raw"), raw),
        st.tuples(st.just("bytes"), st.sampled_from([b"", b"\x00", bytes(LARGEST), bytes(LARGEST + 1)])),
    )
    tracks = st.sampled_from([*range(TRACKS), -1, TRACKS, 1 << 70])
    inputs = st.tuples(tracks, queries, st.lists(frames, min_size=1, max_size=8))
    yield Target(inputs, take, processes=there.processes, also=lambda: f"{sessions.sent:,} frames")


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    with served(folder) as there, using(there) as target:
        yield target
