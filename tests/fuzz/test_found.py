"""What the campaigns found, each with the smallest input that showed it."""

from __future__ import annotations

import json
import logging
import pickle
import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import ray
import redis
from typer.testing import CliRunner

from model.data.corpora import read_emorynlp, read_iemocap, read_meld
from model.data.feature_pickles import read_features
from model.data.tables import TableError, read_table
from model.fusion.checkpoint import CheckpointError, load_checkpoint, load_step, save_checkpoint
from model.fusion.network import FusionGCN
from stream.bus.directory import overview
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import consume, history, subscribe
from stream.errors import MediaError
from stream.events import SessionEnded
from stream.sources.decoding import AudioDecoder
from stream.sources.file import FileSource
from stream.sources.pushed import MAX_CONNECTIONS, PushedTrack
from stream.sources.reach import Reach
from stream.speech.turns import AnnotationError, read_rttm
from tests.fuzz.checkpoints import CONFIG
from tests.fuzz.media import recording
from tests.support.recordings import RATE, voice, write_wav
from workers.cli.app import app
from workers.cli.top import Overview
from workers.cluster.actors import ClusterError, ray_cluster
from workers.cluster.served import inside
from workers.errors import UsageError
from workers.gateway.access import LOOPBACK, Access
from workers.gateway.app import create_app
from workers.gateway.closing import close
from workers.gateway.state import IngesterDep, Settings


def wav(rate: int, form: int = 1) -> bytes:
    """A header with any rate and kind of samples, and a tenth of a second of them."""
    described = struct.pack("<HHIIHH", form, 1, rate, 2 * rate, 2, 16)
    start = b"RIFF" + struct.pack("<I", 3236) + b"WAVEfmt " + struct.pack("<I", len(described)) + described
    return start + b"data" + struct.pack("<I", 3200) + bytes(3200)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n", id="SDP"
        ),
        pytest.param(b"ffconcat version 1.0\nfile 'private.wav'\n", id="concat"),
        pytest.param(
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n#EXT-X-ENDLIST\n", id="HLS"
        ),
    ],
)
def test_what_is_sent_opens_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """An SDP had us listen on a UDP port for half a minute, a list had us read files of the working folder."""
    write_wav(tmp_path / "private.wav", voice(1)[None])
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(MediaError, match="not a media file"):
        FileSource(Path("sent"), content=sent)
    assert time.monotonic() - began < 5


def test_audio_that_no_decoder_knows() -> None:
    with pytest.raises(MediaError, match="the audio codec is unknown"):
        FileSource(Path("sent.wav"), content=wav(RATE, form=0x4242))


@pytest.mark.parametrize("rate", [1, 536_886_912])
def test_a_rate_at_which_nobody_records(rate: int) -> None:
    """To convert from half a gigahertz took seconds and a great filter; a second of 1 Hz fills hours."""
    with pytest.raises(MediaError, match=f"audio at {rate} Hz"):
        FileSource(Path("sent.wav"), content=wav(rate))


def test_sound_that_changes_its_rate_and_channels_goes_on() -> None:
    """As in a broadcast. PyAV's resampler let through unchanged what came after frames that needed no change."""
    sound, made = AudioDecoder(), []
    for layout, rate in (("mono", RATE), ("stereo", 2 * RATE), ("mono", RATE)):
        frame = av.AudioFrame.from_ndarray(
            np.full((1 if layout == "mono" else 2, rate), 0.5, np.float32), "fltp", layout
        )
        frame.sample_rate = rate
        made += sound.decode(frame)
    made += sound.flush()
    joined = np.concatenate(made, 1)
    assert joined.shape == (1, pytest.approx(3 * RATE, abs=50)) and np.abs(joined[:, 1000:-1000] - 0.6).max() < 0.15


def test_an_hour_without_packets_is_not_held_in_memory_at_once() -> None:
    sound = AudioDecoder()
    sizes = []
    for pts in (0, 3_500 * RATE):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, RATE), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, pts, Fraction(1, RATE)
        sizes += [samples.shape[1] for samples in sound.decode(frame)]
    assert max(sizes) <= AudioDecoder.SILENCE_SAMPLES and sum(sizes) == 3_501 * RATE


def test_connections_that_nobody_reads_do_not_pile_up() -> None:
    """A track that is over takes no connection any more, and each left up to a megabyte behind."""
    track = PushedTrack("Mara")
    for number in range(MAX_CONNECTIONS):
        track.attach(str(number), "pcm")
    with pytest.raises(MediaError, match="are waiting already"):
        track.attach("more", "pcm")


@pytest.mark.parametrize("name", ["\x1b[2J", "\x00", "x" * 2000, "\u202e"])
def test_an_annotation_error_lets_nothing_of_the_file_through_to_the_terminal(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.rttm").write_text("".join(f"SPEAKER {name}{n} 1 0 1 <NA> <NA> Ann <NA>\n" for n in range(2)))
    with pytest.raises(AnnotationError, match="does not contain 'call'") as refused:
        read_rttm(tmp_path / "a.rttm", "call")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500


def test_a_turn_that_is_too_short_for_its_start(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text("SPEAKER call 1 1e60 0.9 <NA> <NA> Ann <NA> <NA>\n")
    with pytest.raises(AnnotationError, match="a.rttm:1: not an RTTM line"):
        read_rttm(tmp_path / "a.rttm", "call")


async def test_a_stream_that_others_have_written_to_is_still_read(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One such entry ended every subscriber, stopped a group for good, and made the directory of all sessions fail."""
    caplog.set_level(logging.WARNING)
    keys = Keys("spoilt", "spoilt")
    ended = SessionEnded(
        id="spoilt:1", session="spoilt", reason="end of source", duration=1, utterances=0, failed=0, counts={}
    )
    with redis.Redis.from_url(redis_url) as server:
        for entry in ({"x": "y"}, {"event": "null"}, {"event": b"\xff"}, {"event": '{"type": "of a later version"}'}):
            server.xadd(keys.events, entry)
        server.xadd(keys.events, {"id": ended.id, "type": ended.type, "event": ended.wire()})
        server.hset(keys.directory, mapping={"spoilt": "2026", "no session": "2026", b"\xff": b"\xff"})
    assert await history(redis_url, "spoilt", "spoilt") == [ended]
    assert [event async for event in subscribe(redis_url, "spoilt", "spoilt")] == [ended]
    assert [event async for event in consume(redis_url, "spoilt", "group", "one", "spoilt")] == [ended]
    (info,) = await overview(redis_url, "spoilt")
    assert (info.id, info.state) == ("spoilt", "ended")
    await Overview(redis_url, "spoilt").refresh()
    bus = Bus(redis_url, Keys("next", "spoilt"))
    await bus.register("2026-01-01T00:00:00+00:00")
    await bus.aclose()
    assert "is not an event of this version and is skipped" in caplog.text


@pytest.mark.parametrize(
    "changed", [{"layers": 10**30}, {"hidden": 1 << 14}, {"widths": [1 << 40, 3]}, {"window": 10**9}, {"slots": 10**9}]
)
def test_a_configuration_larger_than_its_weights_is_refused_before_it_is_built(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    """Layers without number never ended; a width without measure took the machine's memory."""
    save_checkpoint(FusionGCN(CONFIG), tmp_path, "# card\n", {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    for load in (load_step, load_checkpoint):
        began = time.monotonic()
        with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
            load(str(tmp_path))
        assert time.monotonic() - began < 2


def test_a_checkpoint_error_is_shown_as_one_line_whatever_the_configuration_says(tmp_path: Path) -> None:
    save_checkpoint(FusionGCN(CONFIG), tmp_path, "# card\n", {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"prosody": {"\x9b2J": []}}))
    with pytest.raises(CheckpointError):
        load_step(str(tmp_path))
    shown = CliRunner().invoke(app, ["doctor", "--checkpoint", str(tmp_path), "--json"])
    details = [finding["detail"] for finding in json.loads(shown.stdout) if finding["part"] == "checkpoint"]
    assert "\\x9b2J" in details[0] and details[0].isprintable()


HEADER = "dialogue_id,speaker,text,emotion,sentiment,end,pitch_mean_hz\n"


@pytest.mark.parametrize("row", ["0,Ann,Hi,joy,positive,inf,1", "0,Ann,Hi,joy,positive,1,1e39"])
def test_numbers_that_nothing_can_be_trained_on(tmp_path: Path, row: str) -> None:
    (tmp_path / "t.csv").write_text(HEADER + row + "\n")
    with pytest.raises(TableError, match="t.csv:2: .* is too large"):
        read_table(tmp_path / "t.csv")


def test_a_release_with_a_line_cut_short(tmp_path: Path) -> None:
    header = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime\n"
    (tmp_path / "train_sent_emo.csv").write_text(header + "Hello,Ross\n")
    with pytest.raises(TableError, match="train_sent_emo.csv:2: the line has not as many fields as the header"):
        read_meld(tmp_path)


@pytest.mark.parametrize("speakers", ["1", "[1]", "{[]: 1}", "[" * 500, "'" + "x" * 5000])
def test_speakers_that_are_no_list_of_names(tmp_path: Path, speakers: str) -> None:
    header = "Utterance,Speaker,Emotion,Scene_ID,Season,Episode\n"
    (tmp_path / "emorynlp_train_final.csv").write_text(f'{header}Hello,"{speakers}",Joyful,1,1,1\n')
    with pytest.raises(TableError, match="speakers like"):
        read_emorynlp(tmp_path)


@pytest.mark.parametrize("line", ["[1.2.3 - 4]\tSes01F_impro01_F000\tneu", "[1 - 2]\tSes_\tneu", "[1 - 2"])
def test_a_line_of_an_evaluation_that_is_none(tmp_path: Path, line: str) -> None:
    for name in ("EmoEvaluation", "transcriptions"):
        folder = tmp_path / "Session1" / "dialog" / name
        folder.mkdir(parents=True)
        (folder / "Ses01F_impro01.txt").write_text(line + "\n")
    with pytest.raises(TableError, match="not a line of an evaluation"):
        read_iemocap(tmp_path)


def test_a_pickle_that_wants_room_for_billions(tmp_path: Path) -> None:
    """Nine bytes took 64 GB."""
    (tmp_path / "f.pkl").write_bytes(b"\x80\x02Nr\xff\xff\xff\xff.")
    with pytest.raises(TableError, match="room for 4294967295 objects"):
        read_features(tmp_path / "f.pkl")


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    for name in ("\x00", "x" * 200, "😀" * 200, "../" * 60):
        with pytest.raises(UsageError, match="no file"):
            inside(tmp_path, name)


def test_a_url_that_is_none() -> None:
    with pytest.raises(MediaError, match="not a URL"):
        Reach([]).check("http://[")


@pytest.mark.parametrize("headers", [{"Host": "["}, {"Host": "localhost", "Origin": "http://["}])
async def test_a_host_and_an_origin_that_are_none(headers: dict[str, str]) -> None:
    app = create_app(Settings("redis://localhost"), Access(None, "redis://localhost", "undertone"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get("/healthz", headers=headers)
    assert answer.status_code == 403 and answer.json() == {
        "detail": "not allowed from this page, or under this host name"
    }


@pytest.mark.parametrize("body", [b'{"consent": NaN}', b'{"\\ud800": 1}', b"[" * 9, b'"' + b"x" * 10_000, b"\xff"])
async def test_a_body_that_cannot_be_said_back(body: bytes) -> None:
    """FastAPI repeats what it refuses: what JSON cannot hold made that an error of ours."""
    app = create_app(Settings("redis://localhost"), Access(None, "redis://localhost", "undertone"))
    app.dependency_overrides |= {each.dependency: lambda: LOOPBACK for each in (*IngesterDep.__metadata__,)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post("/sessions", content=body, headers={"Content-Type": "application/json"})
    detail = answer.json()["detail"]
    assert answer.status_code in (400, 422) and isinstance(detail, str) and detail.isprintable() and len(detail) < 500


async def test_a_reason_fits_into_a_close_frame() -> None:
    closed: list[tuple[int, str]] = []

    class Socket:
        async def close(self, code: int, reason: str) -> None:
            closed.append((code, reason))

    await close(Socket(), 1008, "😀" * 100)  # type: ignore[arg-type]
    ((_, reason),) = closed
    assert len(reason.encode()) <= 123 and reason.startswith("😀" * 30)


@pytest.mark.parametrize("part", [pytest.param(b"V_VP8", id="codec"), pytest.param(b"\x9d\x01\x2a", id="key picture")])
def test_pictures_that_cannot_be_decoded_do_not_cost_the_sound(part: bytes) -> None:
    """Nothing was heard of such a track, and nothing said."""
    track = PushedTrack("Mara", video=True)
    track.attach("a", "webm")
    track.feed("a", recording("webm", "libopus").replace(part, b"X" * len(part)))
    track.detach("a", is_final=True)
    source = track.connect()
    assert sum(block.samples.shape[1] for block in source) >= 0.39 * RATE and source.ended_early is None


def test_pushed_sound_that_no_decoder_knows() -> None:
    track = PushedTrack("Mara")
    track.attach("a", "webm")
    track.feed("a", recording("webm", "libopus").replace(b"A_OPUS", b"A_XXXX"))
    track.detach("a", is_final=True)
    with pytest.raises(MediaError, match="the audio codec is unknown"):
        list(track.connect())


def test_sound_that_breaks_off_before_its_sender_ends_is_told() -> None:
    track = PushedTrack("Mara")
    track.attach("a", "webm")
    whole = recording("webm", "libopus")
    head = whole.index(b"OpusHead")
    track.feed("a", whole[: head + 9] + b"\xff" + whole[head + 10 :])  # channels
    track.detach("a", is_final=True)
    source = track.connect()
    list(source)
    assert source.ended_early == "nothing of its audio can be decoded"


def test_a_pickled_kind_of_array_that_numpy_crashes_on(tmp_path: Path) -> None:
    """A state of numpy.dtype with two fields too few: a segmentation fault."""
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"
    state = b"(K\x03X\x01\x00\x00\x00<NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."
    (tmp_path / "f.pkl").write_bytes(b"\x80\x02" + kind + state)
    with pytest.raises(TableError, match="not laid out like"):
        read_features(tmp_path / "f.pkl")


@pytest.mark.parametrize("kind", ["O", "V8", "U1", "M8"])
def test_a_pickle_of_arrays_of_other_things_than_numbers(tmp_path: Path, kind: str) -> None:
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(np.zeros(2, kind), protocol=2))
    with pytest.raises(TableError, match="not a pickle that we read"):
        read_features(tmp_path / "f.pkl")


def test_a_clip_whose_name_no_file_system_takes(tmp_path: Path) -> None:
    header = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime\n"
    for split in ("train", "dev", "test"):
        row = f"Hello,Ross,joy,positive,{'9' * 400},0,0:0:0,0:0:1\n"
        (tmp_path / f"{split}_sent_emo.csv").write_text(header + row)
    assert read_meld(tmp_path).clips["train"] == [None]


def test_a_ray_that_does_not_start_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setattr(ray, "init", init)
    line = r"^Ray does not start: The current node timed out during startup\. \(its lines: \S+ray\.log\)$"
    with pytest.raises(ClusterError, match=line), ray_cluster(None):
        pass
