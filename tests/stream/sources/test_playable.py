from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import av
import pytest

from stream.errors import MediaError
from stream.sources.playable import has_pictures, make_playable, recorded_start
from stream.sources.recording import recording_files
from tests.support.recorded import Scripted, clicks_of, record


def test_clicks_are_heard_when_they_were_also_after_gaps(tmp_path: Path) -> None:
    spans = [(2.0, 5.0), (19.0, 22.0)]
    record(tmp_path / "s", Scripted(spans, [(2.5, 0), (4.0, 1), (20.0, 2)], 3))
    make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    assert clicks_of(tmp_path / "s/media.webm") == pytest.approx([2.5, 4.0, 20.0], abs=0.03)
    assert not has_pictures(tmp_path / "s/media.webm")
    with av.open(str(tmp_path / "s/media.webm")) as container:
        (sound,) = container.streams
        assert (sound.codec_context.name, sound.codec_context.sample_rate) in (("opus", 48_000), ("libopus", 48_000))
        assert container.duration / av.time_base == pytest.approx(22, abs=0.1)


def test_pictures_of_the_first_camera_are_in_step(tmp_path: Path) -> None:
    record(tmp_path / "s", Scripted([(1.0, 9.0)], [(6.0, 0)], 1, flash=6.0))
    make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    assert has_pictures(tmp_path / "s/media.webm")
    assert clicks_of(tmp_path / "s/media.webm") == pytest.approx([6.0], abs=0.03)
    with av.open(str(tmp_path / "s/media.webm")) as container:
        assert {stream.codec_context.name for stream in container.streams} >= {"vp8"}
        bright = [frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 128]
    assert bright[0] == pytest.approx(6.0, abs=0.13) and bright[-1] < 6.45


def test_a_browser_can_seek_in_it(tmp_path: Path) -> None:
    record(tmp_path / "s", Scripted([(0.0, 30.0)], [(29.0, 0)], 1))
    target = tmp_path / "s/media.webm"
    make_playable(tmp_path / "s", target)
    assert b"\x1c\x53\xbb\x6b" in target.read_bytes(), "it has Cues"
    with av.open(str(target)) as container:
        container.seek(25_000_000)
        assert 20 <= next(container.decode(audio=0)).time <= 25.1


def test_what_successive_processes_recorded_follows_one_another(tmp_path: Path) -> None:
    record(tmp_path / "s", Scripted([(0.0, 4.0)], [(1.0, 0), (3.5, 0)], 1))
    record(tmp_path / "s~2", Scripted([(0.0, 3.0)], [(1.0, 0)], 2)).begin_at(10.0)
    make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    assert clicks_of(tmp_path / "s/media.webm") == pytest.approx([1.0, 3.5, 11.0], abs=0.03)
    shutil.rmtree(tmp_path / "s~2")
    record(tmp_path / "s~2", Scripted([(0.0, 6.0)], [(1.0, 0), (5.0, 0)], 1))  # a file, heard again from its beginning
    make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    assert clicks_of(tmp_path / "s/media.webm") == pytest.approx([1.0, 5.0], abs=0.03)


def test_it_is_private_as_old_as_the_recording_and_part_of_it(tmp_path: Path) -> None:
    record(tmp_path / "s", Scripted([(0.0, 1.0)], [(0.5, 0)], 1))
    os.utime(tmp_path / "s/sound.mkv", (1e9, 1e9))
    before = os.umask(0)
    try:
        make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    finally:
        os.umask(before)
    found = (tmp_path / "s/media.webm").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600 and found.st_mtime == 1e9
    (tmp_path / "s/media.webm.12ab").touch()
    assert {"media.webm", "media.webm.12ab"} <= {path.name for path in recording_files(tmp_path / "s")}


def test_a_recording_that_broke_off_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    record(tmp_path / "s", Scripted([(0.0, 8.0)], [(1.0, 0)], 1, flash=1.0))
    for name in ("sound.mkv", "pictures-0.mkv"):
        content = (tmp_path / "s" / name).read_bytes()
        (tmp_path / "s" / name).write_bytes(content[: len(content) // 2])
    make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    assert clicks_of(tmp_path / "s/media.webm") == pytest.approx([1.0], abs=0.03)


def test_what_cannot_be_played_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(MediaError, match="not a recording"):
        make_playable(tmp_path / "s", tmp_path / "s/media.webm")
    record(tmp_path / "t", Scripted([(0.0, 1.0)], [], 1))
    (tmp_path / "t/sound.mkv").write_bytes(b"")
    with pytest.raises(MediaError, match="no sound"):
        make_playable(tmp_path / "t", tmp_path / "t/media.webm")


def test_a_recording_says_of_which_session_it_is(tmp_path: Path) -> None:
    record(tmp_path / "s", Scripted([(0.0, 1.0)], [], 1))
    assert recorded_start(tmp_path / "s") == "2026-01-02T03:04:05.250+00:00"
    (tmp_path / "s/events.jsonl").write_text("nonsense\n")
    assert recorded_start(tmp_path / "s") is None and recorded_start(tmp_path / "absent") is None
