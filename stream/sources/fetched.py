"""Streams from addresses that a client supplied, which are not trusted.

FFmpeg never opens such an address itself, because redirects and playlists could lead anywhere. HTTP is downloaded here,
hop by hop; RTSP and RTMP go through a relay that is connected to the checked address, again hop by hop.
"""

from __future__ import annotations

import http.client
import io
import threading
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import unquote, urljoin, urlsplit

import av

from stream.block import Block
from stream.errors import MediaError
from stream.sources.decoding import CONTAINERS, LIMITS
from stream.sources.network import OPEN_TIMEOUT_S, PACKET_TIMEOUT_S, NetworkSource
from stream.sources.reach import DEFAULT_PORTS, Reach, Relay, RtspRedirect

MAX_REDIRECTS = 5
# FFmpeg's reuse of HTTP connections crashes when it reads a Python file instead.
HLS_OPTIONS = {"http_persistent": "0", "http_multiple": "0"}


class FetchedSource(NetworkSource):
    """One connection to a stream at an allowed host, until it ends, breaks or is stopped."""

    def __init__(self, url: str, reach: Reach) -> None:
        """Raises MediaError when the address may not be fetched."""
        self._parts = reach.check(url)
        super().__init__(url)
        self._url, self._reach = url, reach
        self._file: Download | None = None
        self._downloads: list[Download] = []

    def _open(self) -> av.container.InputContainer:
        if not self._parts.scheme.startswith("http"):
            return self._open_relayed()
        self._file = Download(self._url, self._reach, self._stopping)
        self._downloads = [self._file]
        options = LIMITS | HLS_OPTIONS | {"protocol_whitelist": "none", "format_whitelist": f"{CONTAINERS},hls"}
        return self._open_input(self._file, None, options, io_open=self._nested)

    def _open_relayed(self) -> av.container.InputContainer:
        """Open an RTSP or RTMP stream; a redirect is followed by a new connection to what it names, if allowed."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            scheme = urlsplit(url).scheme.removesuffix("s")
            options = {"rtsp_transport": "tcp"} if scheme == "rtsp" else {}  # UDP would make FFmpeg open ports
            container = "rtsp" if scheme == "rtsp" else "flv"
            options |= LIMITS | {"protocol_whitelist": f"{scheme},tcp", "format_whitelist": container}
            relay = Relay(url, self._reach, OPEN_TIMEOUT_S, PACKET_TIMEOUT_S)
            try:
                return self._open_input(relay.url, container, options)
            except (av.error.FFmpegError, OSError):
                if relay.refused is None:
                    raise
                if not isinstance(relay.refused, RtspRedirect):
                    raise relay.refused from None
                url = urljoin(url, relay.refused.location)
                if urlsplit(url).scheme not in ("rtsp", "rtsps"):
                    raise _not_allowed(url) from None
        raise OSError(f"more than {MAX_REDIRECTS} redirects")

    def __iter__(self) -> Iterator[Block]:
        try:
            yield from super().__iter__()
        finally:
            for download in self._downloads:  # PyAV closes none of a container that does not open
                download.close()

    def _finite(self, container: av.container.InputContainer) -> bool:
        # A complete download of known length is a recording, which FFmpeg cannot always tell.
        return super()._finite(container) or (self._file is not None and self._file.is_complete)

    def _nested(self, url: str, flags: int, options: dict[str, str]) -> Download:
        """Open an address from a playlist. Raises MediaError, OSError."""
        download = Download(url, self._reach, self._stopping)
        self._downloads = [each for each in self._downloads if not each.closed] + [download]
        return download


class Download:
    """The body of a web address as a readable file; redirects are followed, and each hop is checked."""

    def __init__(self, url: str, reach: Reach, stopping: threading.Event) -> None:
        """Send the first request.

        stopping: makes reads return b"". Raises MediaError if the address or a redirect is not allowed, OSError if the
        request fails.
        """
        self.name = url
        self._reach, self._stopping = reach, stopping
        self._position = 0
        response = self._request()
        self._response: http.client.HTTPResponse | None = response
        length = response.headers["Content-Length"]
        self._size = int(length) if length is not None and length.isdecimal() else None
        self._seekable = self._size is not None and response.headers["Accept-Ranges"] == "bytes"

    @property
    def closed(self) -> bool:
        """True if no connection is open."""
        return self._response is None

    @property
    def is_complete(self) -> bool:
        """True if the length was known and all of it was read."""
        return self._size is not None and self._position >= self._size

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes as soon as there are any; b"" at the end. Raises MediaError, OSError."""
        if self._stopping.is_set():
            return b""
        if self._response is None:
            if self.is_complete:
                return b""
            self._response = self._request()
        try:
            piece = self._response.read1(size)
        except http.client.HTTPException as error:
            raise OSError(f"the server broke off the answer ({type(error).__name__})") from None
        self._position += len(piece)
        return piece

    def seekable(self) -> bool:
        """True if the server supports ranges."""
        return self._seekable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position; the next read then sends a new request."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        if base + offset != self._position:
            self.close()
            self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _request(self) -> http.client.HTTPResponse:
        """Request the body from the current position on. Raises MediaError, OSError."""
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(self.name).scheme not in ("http", "https"):
                raise _not_allowed(self.name)
            try:
                response = self._get()
            except http.client.HTTPException as error:
                raise OSError(f"not an HTTP server ({type(error).__name__})") from None
            location = response.headers["Location"]
            if response.status in (301, 302, 303, 307, 308) and location:
                response.close()
                self.name = urljoin(self.name, location)
                continue
            if response.status != (206 if self._position else 200):
                response.close()
                raise OSError(f"the server answered {response.status} {response.reason}"[:100])
            return response
        raise OSError(f"more than {MAX_REDIRECTS} redirects")

    def _get(self) -> http.client.HTTPResponse:
        parts = urlsplit(self.name)
        connection = _Connection(self.name, self._reach)
        headers = {"User-Agent": "undertone", "Connection": "close"}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("GET", target, headers=headers)
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to the address that `Reach` checked, instead of to a host name."""

    def __init__(self, url: str, reach: Reach) -> None:
        parts = reach.check(url)
        super().__init__(parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
        self._url, self._reach = url, reach

    def connect(self) -> None:
        self.sock = self._reach.connect(self._url, OPEN_TIMEOUT_S)
        self.sock.settimeout(PACKET_TIMEOUT_S)


def _not_allowed(url: str) -> MediaError:
    return MediaError(f"source: a redirect or playlist leads to {url[:60]!r}, which is not allowed")
