"""RTSP from a host that is not trusted: 127.0.0.1 is allowed, 127.0.0.2 is a camera that nobody may see."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from stream.errors import MediaError
from stream.sources.fetched import FetchedSource
from stream.sources.reach import Reach, RtspError, RtspFilter
from tests.support.cameras import SDP, Answer, packet, rtsp_server, talk_over_rtsp
from tests.support.recordings import RATE

REACH = Reach(["127.0.0.1"])


def heard(url: str, limit: float = 1.5) -> float:
    """Seconds of sound, up to `limit`."""
    source, seconds = FetchedSource(url, REACH), 0.0
    for block in source:
        seconds += block.samples.shape[1] / RATE
        if seconds > limit:
            source.stop()
    return seconds


def test_rtsp_goes_over_the_checked_connection() -> None:
    with rtsp_server(talk_over_rtsp) as camera:
        assert heard(camera.url) == pytest.approx(1.6, abs=0.2)
    assert camera.connections == 1


def moved(number: str, to: str, header: str = "Location", end: str = "\r\n") -> bytes:
    return f"RTSP/1.0 302 Moved{end}{number}{end}{header}: {to}{end}{end}".encode()


ATTACKS: dict[str, Callable[[str, str, str], bytes]] = {
    "plainly": lambda method, number, to: moved(number, to),
    "in capitals": lambda method, number, to: moved(number, to, "LOCATION"),
    "with a return in the name": lambda method, number, to: moved(number, to, "Loc\ration"),
    "with bare line ends": lambda method, number, to: moved(number, to, end="\n"),
    "after empty lines": lambda method, number, to: b"\r\n\n\r\n" + moved(number, to),
    "after a blank": lambda method, number, to: b" " + moved(number, to),
    "behind a packet": lambda method, number, to: packet(bytes(200)) + moved(number, to),
    "behind an empty packet": lambda method, number, to: packet(b"") + moved(number, to),
    "behind a short packet": lambda method, number, to: packet(b"abc") + moved(number, to),
    "behind a packet of an unknown channel": lambda method, number, to: packet(bytes(99), 77) + moved(number, to),
    "behind a packet between its lines": lambda method, number, to: (
        f"RTSP/1.0 302 x\r\n{number}\r\n".encode() + packet(b"abcdefgh") + f"Location: {to}\r\n\r\n".encode()
    ),
    "behind packets that end its head": lambda method, number, to: (
        f"RTSP/1.0 302 x\r\n{number}\r\n".encode()
        + packet(b"\r\n\r\nRTSP/1.0 200 OK\r\n\r\n")
        + packet(b"", 10)
        + f"Location: {to}\r\n\r\n".encode()
    ),
    "in a packet": lambda method, number, to: packet(b"\r\n" + moved(number, to)) + talk_over_rtsp(method, number),
    "in short packets": lambda method, number, to: b"".join(
        packet(moved(number, to)[n : n + 7]) for n in range(0, 200, 7)
    ),
    "in a packet that is longer than it is": lambda method, number, to: b"$\0\xff\xff" + moved(number, to),
    "behind a line that is no message": lambda method, number, to: b"hello\r\n" + moved(number, to),
    "behind its own packet of text": lambda method, number, to: b"x$\0\0\4" + moved(number, to),
    "behind a notice": lambda method, number, to: b"RTSP/1.0 100 Continue\r\n\r\n" + moved(number, to),
    "behind a request": lambda method, number, to: (
        f"OPTIONS * RTSP/1.0\r\n{number}\r\n\r\n".encode() + moved(number, to)
    ),
    "as a request": lambda method, number, to: f"REDIRECT * RTSP/1.0\r\n{number}\r\nLocation: {to}\r\n\r\n".encode(),
    "after a wrong length": lambda method, number, to: (
        f"RTSP/1.0 200 OK\r\n{number}\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n".encode() + moved(number, to)
    ),
    "after a negative length": lambda method, number, to: (
        f"RTSP/1.0 200 OK\r\n{number}\r\nContent-Length: -1\r\n\r\n".encode() + moved(number, to)
    ),
    "as the body of an answer": lambda method, number, to: (
        f"RTSP/1.0 200 OK\r\n{number}\r\nContent-Length: {len(moved(number, to))}\r\n\r\n".encode()
        + moved(number, to)
    ),
    "with a zero in the line": lambda method, number, to: moved(number, to).replace(b" Moved", b"\0Moved"),
    "as HTTP": lambda method, number, to: moved(number, to).replace(b"RTSP/1.0", b"HTTP/1.1"),
    "by a long header": lambda method, number, to: (
        f"RTSP/1.0 302 x\r\n{number}\r\nServer: {'x' * 5000}\r\nLocation: {to}\r\n\r\n".encode()
    ),
    "by a fold": lambda method, number, to: (
        f"RTSP/1.0 302 x\r\n{number}\r\nPublic: x\r\n Location: {to}\r\nLocation: {to}\r\n\r\n".encode()
    ),
    "by the session": lambda method, number, to: (
        f"RTSP/1.0 302 x\r\n{number}\r\nSession: 1\rLocation: {to}\r\nLocation: {to}\r\n\r\n".encode()
    ),
    "as another server": lambda method, number, to: (
        f"RTSP/1.0 302 x\r\n{number}\r\nServer: RealServer\r\nRealChallenge1: x\r\nLocation: {to}\r\n\r\n".encode()
    ),
    "by the description": lambda method, number, to: talk_over_rtsp(
        method, number, SDP.replace("t=0 0", "c=IN IP4 127.0.0.2\r\nt=0 0").replace("track1", to)
    ),
    "by the transport": lambda method, number, to: talk_over_rtsp(
        method, number, transport="RTP/AVP/UDP;unicast;source=127.0.0.2;destination=127.0.0.2;server_port=5004-5005"
    ),
}  # fmt: skip


WELL_HIDDEN = ("plainly", "behind a packet", "behind a packet between its lines", "in short packets")
AT = [(way, "DESCRIBE") for way in ATTACKS] + [(way, at) for way in WELL_HIDDEN for at in ("OPTIONS", "SETUP", "PLAY")]


@pytest.mark.parametrize(("way", "at"), AT)
def test_a_camera_leads_nowhere_else(way: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forbidden camera is not even connected to, however the redirect is written."""
    monkeypatch.setattr("stream.sources.network.OPEN_TIMEOUT_S", 0.5)
    with rtsp_server(talk_over_rtsp, "127.0.0.2") as forbidden:

        def answer(method: str, number: str) -> bytes:
            attacks = method == at or (method == "SETUP" and way == "by the transport")
            return ATTACKS[way](method, number, forbidden.url) if attacks else talk_over_rtsp(method, number)

        with rtsp_server(answer) as camera, suppress(MediaError):
            heard(camera.url)
        assert camera.connections >= 1
        assert forbidden.connections == 0


def test_a_redirect_is_told_and_followed_where_that_is_allowed() -> None:
    def to(place: str) -> Answer:
        return lambda method, number: moved(number, place) if method == "DESCRIBE" else talk_over_rtsp(method, number)

    refusal = pytest.raises(MediaError, match=r"^source: 127\.0\.0\.2 is not a host that this gateway fetches from")
    with rtsp_server(talk_over_rtsp, "127.0.0.2") as forbidden, rtsp_server(to(forbidden.url)) as first, refusal:
        heard(first.url)
    with rtsp_server(talk_over_rtsp) as second, rtsp_server(to(second.url)) as first:
        assert heard(first.url) == pytest.approx(1.6, abs=0.2)
        assert (first.connections, second.connections) == (1, 1)
    with rtsp_server(to("http://127.0.0.1/x")) as first, pytest.raises(MediaError, match="leads to 'http://127"):
        heard(first.url)
    with rtsp_server(to("/cam")) as first, pytest.raises(MediaError, match="more than 5 redirects"):
        heard(first.url)
    assert first.connections == 6


def test_what_is_not_rtsp_is_one_clear_line() -> None:
    refusal = pytest.raises(MediaError, match=r"cannot be opened \(the server does not speak RTSP\)")
    with rtsp_server(lambda *_: b"220 mail.example.org ESMTP\r\n\r\n") as camera, refusal:
        heard(camera.url)


def test_whatever_a_server_sends_only_answers_and_packets_are_read() -> None:
    """Random cuts, mixtures and damage of messages: all that comes out is written here."""
    rolls = random.Random(1)
    parts = [attack("DESCRIBE", "CSeq: 2", "rtsp://127.0.0.2/x") for attack in ATTACKS.values()]
    parts += [talk_over_rtsp(method, "CSeq: 2")[:400] for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY")]
    for _ in range(3000):
        sent = bytearray(b"".join(rolls.choices(parts, k=3)))
        for _ in range(rolls.randrange(4)):
            sent[rolls.randrange(len(sent))] = rolls.choice(b"\r\n$ :\0RL1")
        passed, change = b"", RtspFilter()
        with suppress(RtspError):
            while sent:
                size = rolls.choice((1, 7, 100, 5000))
                passed += change(bytes(sent[:size]))
                del sent[:size]
        while passed:
            if passed[:1] == b"$":
                size = struct.unpack(">H", passed[2:4])[0]
                assert size >= 8 and len(passed) >= 4 + size
                passed = passed[4 + size :]
                continue
            head, _, passed = passed.partition(b"\r\n\r\n")
            first, *headers = head.decode().split("\r\n")
            assert first.endswith((" OK", " Refused")) and first.split()[1][0] in "245"
            names = [header.partition(": ")[0] for header in headers]
            assert "location" not in names and not set("\r\n\0") & set("".join(headers))
            length = next((int(each.partition(": ")[2]) for each in headers if each.startswith("content-length")), 0)
            passed = passed[length:]


def test_rtmp_goes_over_the_checked_connection() -> None:
    """To the handshake, which a server of silence does not answer."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                got.append(connection.recv(1))

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(MediaError, match="talk: cannot be opened"):
            heard(f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live/talk")
    assert got == [b"\3"]


def amf(value: object) -> bytes:
    """A value as RTMP's commands have it."""
    if isinstance(value, str):
        return b"\2" + struct.pack(">H", len(value)) + value.encode()
    if isinstance(value, dict):
        fields = (struct.pack(">H", len(name)) + name.encode() + amf(each) for name, each in value.items())
        return b"\3" + b"".join(fields) + b"\0\0\x09"
    return b"\5" if value is None else b"\0" + struct.pack(">d", value)


@pytest.mark.parametrize("command", ["_error", "onStatus", "_result"])
def test_an_rtmp_server_leads_nowhere_else(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect as Flash's servers send it, before and instead of an answer."""
    monkeypatch.setattr("stream.sources.network.OPEN_TIMEOUT_S", 0.5)
    with rtsp_server(talk_over_rtsp, "127.0.0.2") as forbidden, socket.create_server(("127.0.0.1", 0)) as listener:
        to = forbidden.url.replace("rtsp", "rtmp")
        status = {"level": "error", "code": "NetConnection.Connect.Rejected", "description": f"[ redirect={to} ]"}
        said = b"".join(map(amf, (command, 1, None, status | {"redirect": to, "ex": {"code": 302, "redirect": to}})))
        head = b"\3" + bytes(3) + len(said).to_bytes(3, "big") + b"\x14" + bytes(4)
        pieces = [said[first : first + 128] for first in range(0, len(said), 128)]
        asked: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with suppress(OSError), connection, connection.makefile("rb") as requests:
                hello = requests.read(1537)
                connection.sendall(b"\3" + bytes(1536) + hello[1:])
                requests.read(1536)
                asked.append(requests.read(12))
                connection.sendall(head + b"\xc3".join(pieces))
                requests.read(1)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(MediaError, match="cannot be opened"):
            heard(f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live/talk")
        assert asked and forbidden.connections == 0
