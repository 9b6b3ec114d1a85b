from __future__ import annotations

import re

import pytest

from stream.errors import MediaError
from stream.sources.network import NetworkSource, has_protocol
from stream.sources.spec import listen, participant


def test_names_sounds_and_cameras() -> None:
    anna = participant("Anna=rtsp://camera.local/door?token=a=b", 1, 60)
    assert anna.name == "Anna" and anna.camera is None
    assert anna.sound.name == "rtsp://camera.local/door"  # what follows the ? may be a secret
    door = participant("http://host/x=y+camera:/dev/video2", 1, 60)
    assert door.name is None and door.sound.name == "http://host/x=y"
    assert door.camera is not None and door.camera.name == "/dev/video2" and door.camera.channels == 0


def test_several_are_one_session_with_a_speaker_each() -> None:
    source, names = listen(["Anna=tcp://a:1", "tcp://b:2", "Cy=tcp://c:3"], 1, None, 60)
    assert source.channels == 3 and source.split and names == {0: "Anna", 2: "Cy"}
    source, names = listen(["tcp://a:1"], 1, None, 60)
    assert source.channels == 1 and not source.split and names == {}


@pytest.mark.parametrize("spec", ["ftp://host/file", "microphone", "Anna=", "/dev/video0"])
def test_what_is_no_source_is_one_clear_line(spec: str) -> None:
    with pytest.raises(MediaError) as error:
        listen([spec], 1, None, 60)
    assert "\n" not in str(error.value)


def test_what_this_ffmpeg_does_not_open_is_not_offered() -> None:
    assert has_protocol("rtsp") and has_protocol("https") and not has_protocol("nosuch")
    for scheme in ("srt", "hls+http", "nosuch", "HLS+HTTPS"):
        if has_protocol(scheme):
            continue
        with pytest.raises(MediaError, match=rf"^{re.escape(scheme.lower())}://: .* it opens rtsp, .* its playlist"):
            participant(f"{scheme}://host:1/x", 1, 60)
    assert participant("TCP://a:1", 1, 60).sound.name == "tcp://a:1"


def test_a_url_that_does_not_answer_is_one_clear_line() -> None:
    with pytest.raises(MediaError, match=r"tcp://127.0.0.1:9: cannot be opened \(Connection refused\)") as error:
        list(NetworkSource("tcp://127.0.0.1:9"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["rtsp://u:p@camera.invalid/door", "http://camera.invalid:8/x", "tcp://camera.invalid:9"]
)
def test_a_host_without_an_address_is_told(url: str) -> None:
    with pytest.raises(MediaError, match=r"cannot be opened \(no address of camera\.invalid is known: ") as error:
        list(NetworkSource(url))
    assert "u:p" not in str(error.value)
