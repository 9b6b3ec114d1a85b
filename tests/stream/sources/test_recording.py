"""Sessions kept on disk and read back."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import av
import numpy as np
import pytest

from stream.block import Block, VideoFrame
from stream.errors import MediaError
from stream.sources.recording import RecordedSource, Recorder, read_events
from tests.support.events import ended, notice
from tests.support.recordings import RATE, crowded, voice


class Played:
    """A source of blocks that are given, with a picture in each."""

    name, split, video, live, repaired, ended_early = "played", True, True, True, 0, None

    def __init__(self, samples: np.ndarray, holes: tuple[int, ...] = ()) -> None:
        self.channels, self._samples, self._holes = len(samples), samples, holes

    def counts(self) -> dict[str, int]:
        return {}

    def stop(self) -> None:
        pass

    def __iter__(self):
        size = RATE // 10
        for number, first in enumerate(range(0, self._samples.shape[1], size)):
            if number in self._holes:
                continue
            image = np.full((48, 64, 3), 10 * number % 250, np.uint8)
            frames = tuple(VideoFrame(first / RATE + 0.01, image, channel) for channel in (0, 1))
            yield Block(number, first / RATE, self._samples[:, first : first + size], frames)


def record(folder: Path, source: Played) -> Recorder:
    recorder = Recorder(source, folder, {"vad": "silero"}, {})
    for _ in recorder:
        pass
    return recorder


def test_sound_comes_back_bit_by_bit_and_pictures_at_their_times(tmp_path: Path) -> None:
    samples = np.stack([voice(2.0), 1.2 * voice(2.0, seed=1)]).clip(-1, 1)
    recorder = record(tmp_path / "one", Played(samples))
    for event in (notice("s", 0), ended("s")):
        recorder.event(event)
    source = RecordedSource(tmp_path / "one")
    assert (source.channels, source.split, source.video) == (2, True, True)
    assert source.settings["vad"] == "silero" and source.settings["source"] == "played"
    blocks = list(source)
    assert np.array_equal(np.concatenate([block.samples for block in blocks], 1), samples)
    frames = [frame for block in blocks for frame in block.frames]
    assert len(frames) == 40 and {frame.channel for frame in frames} == {0, 1}
    assert [round(f.time, 2) for f in frames if f.channel == 0] == pytest.approx([n / 10 + 0.01 for n in range(20)])
    assert all(abs(int(f.image.mean()) - round(100 * f.time)) <= 4 for f in frames)
    assert [event.id for event in read_events(tmp_path / "one")] == ["s:notice:0", "s:ended"]


def test_a_recording_is_for_its_user_alone(tmp_path: Path) -> None:
    """Whatever the umask, and whatever its parents let in."""
    (tmp_path / "words.vtt").write_text("WEBVTT\n")
    before = os.umask(0)
    try:
        source = Played(np.stack([voice(1.0), voice(1.0, seed=1)]))
        recorder = Recorder(source, tmp_path / "new/ours", {}, {"transcript": tmp_path / "words.vtt"})
        for _ in recorder:
            pass
        recorder.event(ended("ours"))
    finally:
        os.umask(before)
    for folder in (tmp_path / "new", tmp_path / "new/ours"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new/ours").iterdir()}
    assert set(files) > {"sound.mkv", "pictures-0.mkv", "events.jsonl", "session.json", "transcript.vtt"}
    assert set(files.values()) == {0o600}


def test_a_gap_stays_a_gap(tmp_path: Path) -> None:
    """What the source lost is silence at its place."""
    samples = voice(2.0)[None]
    record(tmp_path / "one", Played(samples, holes=(5, 6, 7))).event(ended("s"))
    heard = np.concatenate([block.samples for block in RecordedSource(tmp_path / "one")], 1)
    assert np.array_equal(heard[:, : RATE // 2], samples[:, : RATE // 2])
    assert not heard[:, RATE // 2 : 8 * RATE // 10].any()
    assert np.array_equal(heard[:, 8 * RATE // 10 :], samples[:, 8 * RATE // 10 :])


def test_a_full_disk_ends_the_recording_not_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Played(voice(1.0)[None]), tmp_path / "one", {}, {})

    def full(block: Block) -> None:
        raise OSError(28, "No space left on device")

    blocks = []
    for block in recorder:
        blocks.append(block)
        if block.number == 4:
            monkeypatch.setattr(recorder._sound, "sound", full)
    recorder.event(ended("s"))
    assert len(blocks) == 10
    assert [block.notice for block in blocks if block.notice] == ["the recording stops: No space left on device"]


def test_events_that_a_full_disk_does_not_take_disturb_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Played(voice(0.3)[None]), tmp_path / "one", {}, {})
    with recorder._events, Path("/dev/full").open("w") as full:
        monkeypatch.setattr(recorder, "_events", full)
        recorder.event(notice("s", 0))
        recorder.event(ended("s"))

    def fails() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder._sound, "close", fails)
    assert len(list(recorder)) == 3


def test_what_is_no_recording_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="not a recording"):
        RecordedSource(tmp_path)
    (tmp_path / "session.json").write_text("[")
    with pytest.raises(MediaError, match=r"session\.json: cannot be read"):
        RecordedSource(tmp_path)
    (tmp_path / "events.jsonl").write_text(json.dumps({"type": "nonsense"}) + "\n")
    with pytest.raises(MediaError, match=r"events\.jsonl:1: not an event"):
        read_events(tmp_path)
    with pytest.raises(MediaError, match="cannot be recorded to"):
        Recorder(Played(voice(0.2)[None]), tmp_path, {}, {})
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(MediaError, match="contains no events"):
        read_events(tmp_path / "empty.jsonl")


def test_a_line_that_is_no_event_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As the last one is that a killed process wrote."""
    lines = [notice("s", 0).wire(), "{}", notice("s", 1).wire(), ended("s").wire()[:40]]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    assert [event.id for event in read_events(tmp_path)] == ["s:notice:0", "s:notice:1"]
    assert "events.jsonl:2: not an event" in caplog.text and caplog.text.rstrip().endswith("skipped, and 1 more")


def test_a_folder_of_somebody_else_is_read_as_any_file(tmp_path: Path) -> None:
    """Links, names and pictures that no recorder makes give neither another file's sound nor a traceback."""
    folder, other = tmp_path / "one", tmp_path / "two"
    for each in (folder, other):
        record(each, Played(voice(1.0)[None])).event(ended("s"))
    shutil.copyfile(folder / "pictures-0.mkv", folder / "pictures-x.mkv")
    (folder / "pictures-2.mkv").write_bytes(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    (folder / "pictures-1.mkv").unlink()
    frames = [frame for block in RecordedSource(folder) for frame in block.frames]
    assert len(frames) == 10 and {frame.channel for frame in frames} == {0}
    (folder / "pictures-1.mkv").symlink_to(other / "pictures-1.mkv")
    with pytest.raises(MediaError, match=r"no file 'pictures-1\.mkv' of its own"):
        RecordedSource(folder)
    (folder / "pictures-1.mkv").unlink()
    (folder / "sound.mkv").unlink()
    os.mkfifo(folder / "sound.mkv")
    with pytest.raises(MediaError, match=r"no file 'sound\.mkv' of its own"):
        RecordedSource(folder)
    for text in ("[" * 100_000, "{" + " " * (1 << 20) + "}"):
        (folder / "session.json").write_text(text)
        with pytest.raises(MediaError, match=r"session\.json: cannot be read"):
            RecordedSource(folder)


def test_pictures_of_a_folder_are_bounded(tmp_path: Path) -> None:
    """Two thousand pictures in 50 ms, and one that is larger than any that is analysed."""
    folder = tmp_path / "one"
    record(folder, Played(voice(1.0)[None])).event(ended("s"))
    crowded(folder / "pictures-0.mkv", 2000)
    huge = np.zeros((3000, 4000, 3), np.uint8)
    with av.open(str(folder / "pictures-1.mkv"), "w") as container:
        film = container.add_stream("mjpeg", rate=10)
        film.width, film.height, film.pix_fmt = 4000, 3000, "yuvj420p"
        container.mux(film.encode(av.VideoFrame.from_ndarray(huge, "rgb24")))
        container.mux(film.encode(None))
    frames = [frame for block in RecordedSource(folder) for frame in block.frames]
    assert len(frames) <= 2
