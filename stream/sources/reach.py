"""Allow-list of the hosts that streams may be fetched from, and connections to exactly the addresses it checked.

A host name is resolved once, so that a later change of its DNS entry cannot redirect a connection (DNS rebinding).

Where FFmpeg speaks to such a host, it connects to a relay on loopback, which is connected to the checked address. What
an RTSP server says is not passed on: it is parsed here, and FFmpeg reads an answer that is written anew from the parts
that a stream needs. So FFmpeg never sees a redirect, whatever the server's bytes look like to FFmpeg's own parser.
"""

from __future__ import annotations

import ipaddress
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any
from urllib.parse import SplitResult, urlsplit

from stream.errors import MediaError, StreamError

DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}
TLS_SCHEMES = {"https", "rtsps", "rtmps"}
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
PRINTABLE_ASCII = re.compile(r"[!-~]+")  # no spaces or line ends, with which requests could be forged
UNICAST = IPv6Network("2000::/3")
SIX_TO_FOUR = IPv6Network("2002::/16")  # wraps an IPv4 address, which may be an internal one
READ_BYTES = 1 << 16
MAX_HEAD_BYTES = 1 << 14  # of an RTSP message without its body
MAX_HEADER_BYTES = 1 << 10  # of one header's value
MAX_BODY_BYTES = 1 << 16
MIN_PACKET_BYTES = 8  # FFmpeg reads the content of a shorter interleaved packet as a message
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
STATUS_LINE = re.compile(r"RTSP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
REQUEST_LINE = re.compile(r"[A-Z_]+ \S+ RTSP/1\.[01]")
HEADER = re.compile(r"([A-Za-z-]+)[ \t]*:[ \t]*([ -~]*)")
PASSED_HEADERS = ("cseq", "session", "transport", "content-base", "public", "range", "rtp-info", "www-authenticate")


class Reach:
    """The hosts, addresses and networks that an operator allows."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """allowed: host names, which must resolve to public addresses; addresses and networks (10.0.5.0/24), which may
        be internal and are then also allowed as addresses of the named hosts.

        Raises ValueError for an entry that is neither.
        """
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allowed:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if not HOST_NAME.fullmatch(entry.lower()):
                    raise ValueError(f"{entry!r} is no host, address or network") from None
                self._hosts.add(entry.lower())

    def check(self, url: str) -> SplitResult:
        """Parse a URL and check its scheme and host, without resolving the name. Raises MediaError."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise MediaError(f"source: not a URL ({error})") from None
        if not PRINTABLE_ASCII.fullmatch(url):
            raise MediaError("source: not a URL (spaces, line ends and non-ASCII characters must be %-encoded)")
        if parts.scheme not in DEFAULT_PORTS:
            raise MediaError(f"source: {parts.scheme or 'no'} URL; supported are {', '.join(DEFAULT_PORTS)}")
        address = _address(host)
        if host not in self._hosts and not (address is not None and self._is_listed(address)):
            raise MediaError(
                f"source: {host} is not a host that this gateway fetches from (undertone serve --pull-from)"
            )
        return parts

    def connect(self, url: str, timeout: float) -> socket.socket:
        """Connect to the host of a URL, over TLS if the scheme requires it, at an address that is allowed.

        timeout: in seconds. Raises MediaError if the host or its address is not allowed, OSError if it does not answer.
        """
        parts = self.check(url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )  # once: a second query might be answered differently
        for *_, address in found:
            if not self._is_allowed(ipaddress.ip_address(address[0])):
                raise MediaError(
                    f"source: {host} has the internal address {address[0]} (undertone serve --pull-from NETWORK)"
                )
        error: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in found:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(timeout)
                plain.connect(address)
                if parts.scheme in TLS_SCHEMES:
                    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
                return plain
            except OSError as failure:
                plain.close()
                error = failure
        raise error

    def _is_listed(self, address: IPv4Address | IPv6Address) -> bool:
        """True if the operator listed this address or a network that contains it."""
        return any(address in network for network in self._networks)

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        """True if the address is listed or public."""
        address = _unmapped(address)
        if self._is_listed(address):
            return True
        if isinstance(address, IPv6Address) and (address not in UNICAST or address in SIX_TO_FOUR):
            return False
        return address.is_global and not address.is_multicast


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address, if the host is one; short notations such as 127.1 or 0x7f000001 are not accepted."""
    try:
        return _unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address of an IPv4-mapped IPv6 address (::ffff:127.0.0.1), else the address itself."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


class RtspError(StreamError, OSError):
    """An RTSP server sent something else than RTSP, or more than a stream needs."""


class RtspRedirect(RtspError):
    """An RTSP server says that the stream is elsewhere."""

    def __init__(self, location: str) -> None:
        super().__init__("the server redirects")
        self.location = location


class RtspFilter:
    """Turns the bytes of an RTSP server into those that FFmpeg may read: answers written anew, and media packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __call__(self, piece: bytes) -> bytes:
        """The next bytes for FFmpeg, after `piece` from the server. Raises RtspError."""
        self._buffer += piece
        passed = bytearray()
        while (message := self._next()) is not None:
            passed += message
        return bytes(passed)

    def _next(self) -> bytes | None:
        """The next message or packet for FFmpeg, b"" if nothing; None if it is not yet here. Raises RtspError."""
        while self._buffer.startswith((b"\r", b"\n")):
            del self._buffer[0]
        if self._buffer.startswith(b"$"):
            size = 4 + int.from_bytes(self._buffer[2:4], "big")
            if len(self._buffer) < max(4, size):
                return None
            packet = self._take(size)
            return packet if size >= 4 + MIN_PACKET_BYTES else b""
        end = END_OF_HEAD.search(bytes(self._buffer[: MAX_HEAD_BYTES + 4]))
        if end is None:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise RtspError("the server does not speak RTSP")
            return None
        first, *lines = self._buffer[: end.start()].decode("latin-1").replace("\r", "").split("\n")
        headers = {match[1].lower(): match[2] for line in lines if (match := HEADER.fullmatch(line))}
        length = headers.get("content-length", "0").strip()
        if not re.fullmatch(r"[0-9]{1,6}", length) or int(length) > MAX_BODY_BYTES:
            raise RtspError("the server's answer is too long")
        if len(self._buffer) < end.end() + int(length):
            return None
        body = self._take(end.end() + int(length))[end.end() :]
        return self._answer(first, headers, body)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _answer(self, first: str, headers: dict[str, str], body: bytes) -> bytes:
        """The answer for FFmpeg; b"" for a request of the server's, which a stream does without. Raises RtspError."""
        status = STATUS_LINE.fullmatch(first)
        if status is None and not REQUEST_LINE.fullmatch(first):
            raise RtspError("the server does not speak RTSP")
        if first.startswith("REDIRECT ") or (status and status[1][0] == "3"):
            raise RtspRedirect(headers.get("location", ""))
        if status is None or status[1][0] == "1":
            return b""
        passed = [
            f"{name}: {headers[name]}" for name in PASSED_HEADERS if 0 < len(headers.get(name, "")) <= MAX_HEADER_BYTES
        ]
        is_sdp = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/sdp"
        if is_sdp:
            passed += ["content-type: application/sdp", f"content-length: {len(body)}"]
        head = "\r\n".join([f"RTSP/1.0 {status[1]} {'OK' if status[1][0] == '2' else 'Refused'}", *passed, "", ""])
        return head.encode() + (body if is_sdp else b"")


class Relay:
    """One connection to a host, which FFmpeg reaches at a loopback URL."""

    def __init__(self, url: str, reach: Reach, open_timeout: float, read_timeout: float) -> None:
        """Connect to the host of an RTSP or RTMP URL. open_timeout, read_timeout: in seconds, of each end.

        Raises MediaError if the address is not allowed, OSError if it does not answer.
        """
        far = reach.connect(url, open_timeout)
        far.settimeout(read_timeout)
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        listener.settimeout(open_timeout)
        parts = urlsplit(url)
        login, separator, _ = parts.netloc.rpartition("@")
        netloc = f"{login}{separator}127.0.0.1:{listener.getsockname()[1]}"
        self.url = parts._replace(scheme=parts.scheme.removesuffix("s"), netloc=netloc).geturl()
        """The URL for FFmpeg."""
        self.refused: RtspError | None = None
        """Reason why the connection was cut, if the server said what is not passed on."""
        change = RtspFilter() if parts.scheme.startswith("rtsp") else bytes
        threading.Thread(target=self._run, args=(listener, far, change), daemon=True).start()

    def _run(self, listener: socket.socket, far: socket.socket, change: Callable[[bytes], bytes]) -> None:
        """Relay until either end closes; `change` is applied to what the host sends."""
        with far, listener:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            listener.close()
            with near:
                try:
                    while True:
                        buffered = isinstance(far, ssl.SSLSocket) and far.pending()
                        ready: list[Any] = [far] if buffered else select.select([near, far], [], [])[0]
                        for end in ready:
                            piece = end.recv(READ_BYTES)
                            if not piece:
                                return
                            if end is near:
                                far.sendall(piece)
                            else:
                                near.sendall(change(piece))
                except RtspError as refusal:
                    self.refused = refusal
                except OSError:
                    return
