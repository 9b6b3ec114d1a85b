"""Which addresses may be fetched from."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from stream.errors import MediaError
from stream.sources.reach import Reach


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "tcp://cdn.example.org:80/x",
        "udp://cdn.example.org:80",
        "concat:http://cdn.example.org/a|file:///etc/passwd",
        "http:///x",
        "http://elsewhere.example.org/x",
        "http://cdn.example.org@elsewhere.example.org/x",
        "http://elsewhere.example.org#@cdn.example.org/x",
        "http://cdn.example.org.elsewhere.example.org/x",
        "http://cdn.example.org:99999/x",
        "http://[::1/x",
        "http://cdn.example.org/x y",
        "rtsp://cdn.example.org/x\r\nX-Forged: 1",
        "http://cdn.exämple.org/x",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.6.1/",
    ],
)
def test_what_is_not_named_is_not_fetched(url: str) -> None:
    with pytest.raises(MediaError, match=r"^source: ") as refusal:
        Reach(["cdn.example.org", "10.0.5.0/24"]).check(url)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["https://CDN.example.org/x", "rtsp://me:secret@cdn.example.org:8554/x", "http://10.0.5.7/", "http://[fd00::7]/"],
)
def test_what_is_named_is(url: str) -> None:
    Reach(["cdn.example.org", "10.0.5.0/24", "fd00::/64"]).check(url)


@pytest.mark.parametrize("wrong", ["http://cdn.example.org", "a b", "10.0.0.0/99", "", "*.example.org"])
def test_an_operator_that_names_no_host_hears_so(wrong: str) -> None:
    with pytest.raises(ValueError, match="no host, address or network"):
        Reach([wrong])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::1", "2001:0:1::1", "::127.0.0.1",
    ],
)  # fmt: skip
def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    answers(monkeypatch, [address])
    with pytest.raises(MediaError, match="cdn.example.org has the internal address"):
        Reach(["cdn.example.org", "10.9.9.0/24"]).connect("http://cdn.example.org/", 1)


def test_one_internal_address_among_others_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["93.184.215.14", "127.0.0.1"])
    with pytest.raises(MediaError, match="has the internal address 127.0.0.1"):
        Reach(["cdn.example.org"]).connect("http://cdn.example.org/", 1)


def test_a_name_that_resolves_otherwise_the_second_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that is connected to: nobody asks for the name again."""
    with socket.create_server(("127.0.0.1", 0)) as inside, socket.create_server(("127.0.0.2", 0)) as allowed:
        asked = answers(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
        reach = Reach(["cdn.example.org", "127.0.0.2"])
        with reach.connect(f"http://cdn.example.org:{allowed.getsockname()[1]}/", 1) as connection:
            assert connection.getpeername() == allowed.getsockname()
        assert asked == ["cdn.example.org"]
        with pytest.raises(MediaError, match="has the internal address 127.0.0.1"):
            reach.connect(f"http://cdn.example.org:{inside.getsockname()[1]}/", 1)


def answers(monkeypatch: pytest.MonkeyPatch, *each: list[str]) -> list[str]:
    """A resolver that gives these answers one after the other, the last again and again; returns what it is asked."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = each[min(len(asked), len(each)) - 1]
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, found, strict=True)
        ]

    monkeypatch.setattr("stream.sources.reach.socket.getaddrinfo", resolve)
    return asked
