"""A microphone: PulseAudio's null sink, played into, is what sounddevice records."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.e2e.test_replay import UNDERTONE, labels
from tests.recordings import RATE, write_wav

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
def test_a_conversation_is_recognized_live(recording: Path, redis_url: str, ray_address: str) -> None:
    """Three lines by two people into a two-channel microphone, words by pocketsphinx, stopped by Ctrl-C."""
    script = f"""
    set -m
    "$UNDERTONE" live --channels 2 --names Mara,Jonas --asr pocketsphinx --json --ray-address "$RAY" &
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
    assert all(event["modalities"]["missing"] == [] for event in labels(events))
    assert events[-1]["type"] == "session.ended" and events[-1]["reason"] == "interrupted"
    assert [event["latency"]["vad"] for event in labels(events)] == pytest.approx([0.5] * 3, abs=0.05)


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
