"""Streams that somebody outside named, from real servers: 127.0.0.1 is allowed, 127.0.0.2 is what is internal."""

from __future__ import annotations

import functools
import socket
import threading
from pathlib import Path

import pytest

from stream.errors import MediaError
from stream.sources.fetched import FetchedSource
from stream.sources.reach import Reach
from stream.sources.reconnecting import ReconnectingSource
from tests.support.recordings import RATE, voice, write_mp4
from tests.support.senders import Pages, hls, site, transport_stream

REACH = Reach(["127.0.0.1"])


def heard(url: str) -> float:
    """Seconds of sound."""
    return sum(block.samples.shape[1] for block in FetchedSource(url, REACH)) / RATE


def test_what_is_allowed_is_heard() -> None:
    talk = transport_stream(voice(2))
    with site({"/talk.ts": talk, "/here": "/there", "/there": "/talk.ts"}) as (url, asked):
        assert heard(f"{url}/here") == pytest.approx(2, abs=0.2)
        assert asked == ["/here", "/there", "/talk.ts"]
        source = ReconnectingSource(functools.partial(FetchedSource, f"{url}/talk.ts", REACH), give_up=5)
        assert not [block.notice for block in source if block.notice], "it has ended, and is not played again"
        assert source.ended_early is None
        with pytest.raises(MediaError, match=r"gone.ts: cannot be opened \(the server answered 404"):
            heard(f"{url}/gone.ts")


def test_a_recording_with_its_index_at_the_end_is_read_in_ranges(tmp_path: Path) -> None:
    film = write_mp4(tmp_path / "a.mp4", voice(20)[None], 20).read_bytes()
    assert film.index(b"mdat") < film.index(b"moov")
    with site({"/a.mp4": film}, ranges=True) as (url, asked):
        assert heard(f"{url}/a.mp4") == pytest.approx(20, abs=0.2)
        assert any("bytes=" in each for each in asked)


def test_a_login_is_sent_and_not_shown() -> None:
    with site({"/talk.ts": transport_stream(voice(1))}) as (url, _):
        source = FetchedSource(f"{url}/talk.ts".replace("//", "//me:secret@"), REACH)
        assert "secret" not in source.name
        assert sum(block.samples.shape[1] for block in source)


@pytest.mark.parametrize(
    "leads", ["{inside}/secret.ts", "file:///etc/passwd", "tcp://127.0.0.1:1", "//127.0.0.2:1/x", "ftp://x"]
)
def test_a_redirect_to_elsewhere_is_refused(leads: str) -> None:
    with site({"/secret.ts": transport_stream(voice(1))}, "127.0.0.2") as (inside, looked):
        pages: Pages = {"/a.ts": "/b.ts", "/b.ts": leads.format(inside=inside)}
        with site(pages) as (url, asked), pytest.raises(MediaError, match=r"^source: "):
            heard(f"{url}/a.ts")
        assert asked == ["/a.ts", "/b.ts"] and looked == []


def test_redirects_that_go_in_a_circle_end() -> None:
    with site({"/a": "/b", "/b": "/a"}) as (url, asked), pytest.raises(MediaError, match="more than 5 redirects"):
        heard(f"{url}/a")
    assert len(asked) == 6


@pytest.fixture(scope="module")
def playlist(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Four seconds of HLS."""
    folder = tmp_path_factory.mktemp("hls")
    hls(folder / "live.m3u8", voice(4))
    return {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_hls(playlist: Pages) -> None:
    with site(playlist) as (url, _):
        assert heard(f"{url}/live.m3u8") == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(
    "entry",
    [
        "#EXTINF:1,\nfile:///etc/passwd",
        "#EXTINF:1,\nfile://{file}",
        "#EXTINF:1,\n{inside}/secret.ts",
        "#EXTINF:1,\nhttp://127.0.0.1:1@{host}/secret.ts",
        "#EXTINF:1,\nconcat:{inside}/secret.ts",
        "#EXTINF:1,\nhttpproxy://{host}/x:1",
        "#EXTINF:1,\ndata:video/mp2t;base64,R0FA",
        "#EXTINF:1,\nsubfile,,start,0,end,0,,:{file}",
        '#EXT-X-KEY:METHOD=AES-128,URI="{inside}/secret.ts"\n#EXTINF:1,\nlive0.ts',
        '#EXT-X-KEY:METHOD=AES-128,URI="file://{file}"\n#EXTINF:1,\nlive0.ts',
        '#EXT-X-MAP:URI="file://{file}"\n#EXTINF:1,\nlive0.ts',
        "#EXT-X-STREAM-INF:BANDWIDTH=1\n{inside}/live.m3u8",
    ],
)
def test_a_playlist_that_names_something_else_gets_nothing(tmp_path: Path, playlist: Pages, entry: str) -> None:
    """Neither a file of this machine nor an internal address is read: whatever it begins with, nothing is heard."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(transport_stream(voice(3)))
    with site(playlist | {"/secret.ts": secret.read_bytes()}, "127.0.0.2") as (inside, looked):
        entry = entry.format(inside=inside, file=secret, host=inside.removeprefix("http://"))
        text = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{entry}\n#EXT-X-ENDLIST\n"
        with site(playlist | {"/bad.m3u8": text.encode()}) as (url, _), pytest.raises(MediaError) as refusal:
            heard(f"{url}/bad.m3u8")
        assert looked == [] and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "body",
    [
        b"ffconcat version 1.0\nfile 'secret.ts'\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    ],
)
def test_other_lists_of_addresses_are_not_media(body: bytes) -> None:
    with site({"/a.ts": body, "/secret.ts": transport_stream(voice(1))}) as (url, asked):
        with pytest.raises(MediaError, match="cannot be opened"):
            heard(f"{url}/a.ts")
        assert asked == ["/a.ts"]


def test_a_server_without_a_certificate_that_we_know_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            with plain.accept()[0] as connection:
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(MediaError, match="cannot be opened"):
            heard(f"https://127.0.0.1:{plain.getsockname()[1]}/x.ts")
