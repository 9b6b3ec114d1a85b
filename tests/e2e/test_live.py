"""Live sources: PulseAudio's null sinks stand in for microphones and loudspeakers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import UNDERTONE, labels, undertone
from tests.support.paths import ROOT
from tests.support.recordings import RATE, write_wav
from tests.support.senders import tcp_sender, transport_stream

VIRTUAL = ROOT / "deploy" / "virtual-microphone.sh"
PLAY = """
for _ in $(seq 900); do [[ -n $(pactl list short source-outputs) ]] && break; sleep 0.1; done
paplay --device=virtual "$RECORDING"
"""


@pytest.fixture
def recording(demo_audio: np.ndarray, tmp_path: Path) -> Path:
    return write_wav(tmp_path / "said.wav", demo_audio[:, : round(12.4 * RATE)])


def live(script: str, recording: Path, redis_url: str, ray_address: str) -> tuple[int, list[dict], str]:
    command = [str(VIRTUAL), "bash", "-c", script]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ
        | {"UNDERTONE": UNDERTONE, "RECORDING": str(recording), "UNDERTONE_REDIS": redis_url, "RAY": ray_address},
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.microphone
def test_a_conversation_is_recognized_live(tiny: str, recording: Path, redis_url: str, ray_address: str) -> None:
    """Three lines by two people into a two-channel microphone, words by faster-whisper, stopped by Ctrl-C."""
    script = f"""
    set -m
    "$UNDERTONE" live --channels 2 --names Mara,Jonas --asr-model {tiny} --json --ray-address "$RAY" &
    recognizer=$!
    {PLAY}
    sleep 3
    kill -INT $recognizer
    wait $recognizer
    """
    code, events, errors = live(script, recording, redis_url, ray_address)
    assert code == 0, errors
    assert "Traceback" not in errors
    assert events[0]["sources"][0].startswith("microphone: ")
    assert [event["speaker"] for event in labels(events)] == ["Mara", "Jonas", "Mara"]
    assert "wonderful news" in labels(events)[2]["text"] and "Jonas" in labels(events)[0]["text"]
    assert all(event["modalities"]["missing"] == [] for event in labels(events))
    assert events[-1]["type"] == "session.ended" and events[-1]["reason"] == "interrupted"
    assert [event["latency"]["vad"] for event in labels(events)] == pytest.approx([0.5] * 3, abs=0.05)


@pytest.mark.microphone
def test_two_participants_are_each_heard_by_a_device_of_their_own(
    demo_audio: np.ndarray, tmp_path: Path, redis_url: str, ray_address: str
) -> None:
    """A microphone, and beside it the sound of a meeting from another device: each hears one person, in step."""
    anna, meeting = (
        write_wav(tmp_path / f"{n}.wav", demo_audio[n : n + 1, : round(12.4 * RATE)]) for n in range(2)
    )  # fmt: skip
    script = f"""
    pactl load-module module-null-sink sink_name=meeting >&2
    "$UNDERTONE" live Anna=mic Meeting=monitor:meeting.monitor --seconds 14 --modalities audio --json \
        --ray-address "$RAY" &
    recognizer=$!
    for _ in $(seq 900); do [[ $(pactl list short source-outputs | wc -l) == 2 ]] && break; sleep 0.1; done
    paplay --device=meeting "{meeting}" &
    paplay --device=virtual "{anna}"
    wait $recognizer
    """
    code, events, errors = live(script, anna, redis_url, ray_address)
    assert code == 0, errors
    assert events[0]["channels"] == "per speaker"
    assert events[0]["sources"] == ["microphone: virtual.monitor, monitor: meeting.monitor"]
    assert [event["speaker"] for event in labels(events)] == ["Anna", "Meeting", "Anna"]
    assert events[-1]["counts"].get("worst_skew_ms", 0) < 1000


@pytest.mark.microphone
def test_a_microphone_that_goes_away_comes_back(
    demo_audio: np.ndarray, tmp_path: Path, redis_url: str, ray_address: str
) -> None:
    """PulseAudio dies in the middle and is started again: the gap is said, and what comes after is heard."""
    recording = write_wav(tmp_path / "line.wav", demo_audio[:, : round(4.8 * RATE)])
    script = f"""
    set -m
    "$UNDERTONE" live --modalities audio --json --ray-address "$RAY" &
    recognizer=$!
    {PLAY}
    pkill -9 -x pulseaudio
    sleep 1
    "$RESTART" &
    pulse=$!
    for _ in $(seq 200); do [[ -n $(pactl list short source-outputs 2>/dev/null) ]] && break; sleep 0.1; done
    paplay --device=virtual "$RECORDING"
    sleep 2
    kill -INT $recognizer
    wait $recognizer
    code=$?
    kill $pulse
    exit $code
    """
    code, events, errors = live(script, recording, redis_url, ray_address)
    assert code == 0, errors
    reasons = [event["reason"] for event in events if event["type"] == "degraded"]
    assert any("is lost" in reason for reason in reasons) and any("is back" in reason for reason in reasons), reasons
    back = next(e["audio_time"] for e in events if e["type"] == "degraded" and "is back" in e["reason"])
    assert any(event["audio_start"] > back for event in labels(events))
    assert events[-1]["counts"]["reconnects"] >= 1


def test_a_network_stream_is_cut_and_restored(demo_audio: np.ndarray, redis_url: str, ray_address: str) -> None:
    """An encoder sends MPEG-TS over TCP; its connection is cut and accepted again."""
    mono = demo_audio.sum(0)
    # At twice the speed of what was said: nothing in a live stream says when it is due.
    parts = [(transport_stream(mono[a * RATE : b * RATE]), (b - a) / 2) for a, b in ((0, 9), (14, 23))]
    with tcp_sender(parts, pause=1.0) as url:
        done = undertone(
            "live", f"Door={url}", "--modalities", "audio", "--reconnect", 4, "--json",
            "--redis", redis_url, "--ray-address", ray_address,
        )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "Traceback" not in done.stderr
    assert events[0]["sources"] == [url] and events[0]["speakers"] == "channel"
    reasons = [event["reason"] for event in events if event["type"] == "degraded"]
    assert "is lost" in reasons[0] and "is back after" in reasons[1] and "audio lost" in reasons[2]
    back = next(e["audio_time"] for e in events if e["type"] == "degraded" and "is back" in e["reason"])
    heard = [event["audio_start"] for event in labels(events)]
    assert min(heard) < 5 and max(heard) > back
    assert events[-1]["reason"].startswith("error: ") and "not back within 4 s" in events[-1]["reason"]
    assert done.returncode == 1 and events[-1]["counts"]["reconnects"] == 1


@pytest.mark.microphone
def test_live_stops_after_its_seconds(recording: Path, redis_url: str, ray_address: str) -> None:
    script = f"""
    "$UNDERTONE" live --seconds 6 --modalities audio --json --ray-address "$RAY" &
    recognizer=$!
    {PLAY}
    wait $recognizer
    """
    code, events, errors = live(script, recording, redis_url, ray_address)
    assert code == 0, errors
    assert events[-1]["reason"] == "end of source"
    assert events[-1]["duration"] == pytest.approx(6, abs=0.3)


def test_a_camera_that_is_nowhere_is_one_line_without_figures(redis_url: str, ray_address: str) -> None:
    url = "rtsp://camera.invalid/door"
    done = undertone("live", f"Door={url}", "--modalities", "audio", "--redis", redis_url, "--ray-address", ray_address)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"undertone: {url}: cannot be opened (no address of camera.invalid is known: "), done.stderr
    assert last.endswith(")") and "utterances" not in last
