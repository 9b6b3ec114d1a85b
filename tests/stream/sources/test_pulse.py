"""Sources of a real PulseAudio, whose null sinks stand in for microphones and loudspeakers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.recordings import RATE, write_wav

VIRTUAL = ROOT / "deploy" / "virtual-microphone.sh"
LISTEN = """
import json, sys
import numpy as np
from stream.sources.spec import listen

source, _ = listen(sys.argv[2:], 1, float(sys.argv[1]), 4)
blocks = list(source)
audio = np.concatenate([block.samples for block in blocks], 1)
seconds = audio.shape[1] / 16000
print(json.dumps({
    "name": source.name, "ended": source.ended_early,
    "tones": [float(np.abs(np.fft.rfft(channel)).argmax() / seconds) for channel in audio],
    "loudest": float(np.abs(audio).max()),
    "notices": [block.notice for block in blocks if block.notice],
}))
"""


def heard(folder: Path, script: str, seconds: int, *specs: str, program: str = LISTEN) -> dict:
    """What `listen` hears while the script runs, which finds tones of 440 and 1000 Hz in $LOW and $HIGH, $LISTEN the
    command, and sinks named virtual (the default microphone) and meeting, which is module $MEETING."""
    time = np.arange(12 * RATE) / RATE
    low, high = (
        write_wav(folder / f"{tone}.wav", 0.3 * np.sin(2 * np.pi * tone * time)[None].astype(np.float32))
        for tone in (440, 1000)
    )
    (folder / "listen.py").write_text(program)
    done = subprocess.run(
        [VIRTUAL, "bash", "-c", f"MEETING=$(pactl load-module module-null-sink sink_name=meeting)\n{script}", "-",
         sys.executable, folder / "listen.py", str(seconds), *specs],
        capture_output=True, text=True, timeout=60,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "LOW": str(low), "HIGH": str(high), "ERRORS": str(folder / "errors")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


PLAY_BOTH = """
paplay --device=virtual "$LOW" &
paplay --device=meeting "$HIGH" &
"$@"
"""


@pytest.mark.microphone
@pytest.mark.integration
@pytest.mark.parametrize(
    ("specs", "tones", "name"),
    [
        (["mic", "monitor:meeting.monitor"], [440, 1000], "microphone: virtual.monitor, monitor: meeting.monitor"),
        (["monitor:meeting.monitor", "mic"], [1000, 440], "monitor: meeting.monitor, microphone: virtual.monitor"),
        (["monitor:meeting.monitor", "monitor:virtual.monitor", "mic:default"], [1000, 440, 440], "monitor: meeting"),
    ],
)
def test_each_hears_its_own_device(tmp_path: Path, specs: list[str], tones: list[int], name: str) -> None:
    found = heard(tmp_path, PLAY_BOTH, 3, *specs)
    assert found["tones"] == pytest.approx(tones, abs=5) and found["name"].startswith(name)
    assert found["notices"] == [] and found["ended"] is None


@pytest.mark.microphone
@pytest.mark.integration
@pytest.mark.parametrize("spec", ["monitor:meeting.monitor", "mic", "mic:default"])
def test_a_device_that_is_unplugged_is_told_and_heard_again_when_it_is_back(tmp_path: Path, spec: str) -> None:
    """The only one there is, so that the server has no other to put in its place."""
    script = """
    pactl set-default-source meeting.monitor
    pactl list short modules | grep sink_name=virtual | cut -f1 | xargs pactl unload-module
    (sleep 2; pactl unload-module $MEETING; sleep 1
     pactl load-module module-null-sink sink_name=meeting && paplay --device=meeting "$HIGH") >&2 &
    "$@"
    """
    found = heard(tmp_path, script, 8, spec)
    assert "is lost: " in found["notices"][0] and "is back after" in found["notices"][1]
    assert found["tones"] == pytest.approx([1000], abs=5) and found["loudest"] == pytest.approx(0.3, abs=0.05)


@pytest.mark.microphone
@pytest.mark.integration
def test_a_microphone_that_is_replaced_is_told_and_a_named_source_never_is(tmp_path: Path) -> None:
    script = """
    pactl set-default-source meeting.monitor
    (sleep 2; pactl unload-module $MEETING; paplay --device=virtual "$LOW") >&2 &
    "$@"
    """
    found = heard(tmp_path, script, 6, "mic", "monitor:meeting.monitor")
    microphone, monitor = found["notices"][:2] if "no longer" in found["notices"][0] else found["notices"][1::-1]
    assert "is no longer used: the sound server now records from virtual.monitor" in microphone
    assert monitor.startswith("monitor: meeting.monitor is lost: ")
    assert found["tones"] == pytest.approx([440, 0], abs=5)


@pytest.mark.microphone
@pytest.mark.integration
def test_a_source_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    script = """
    "$@" 2>&1 | tail -1 | python3 -c 'import json, sys; print(json.dumps({"line": sys.stdin.read()}))'
    """
    line = heard(tmp_path, script, 1, "monitor:nobody")["line"]
    assert "cannot record from monitor: nobody: No such entity; `pactl list short sources` lists names" in line


@pytest.mark.microphone
@pytest.mark.integration
def test_lines_of_sound_drivers_stay_off_the_terminal_and_all_others_do_not(tmp_path: Path) -> None:
    """PortAudio tells of each step that fails when its device goes; what other C code writes is still seen."""
    script = """
    pactl set-default-source meeting.monitor
    pactl list short modules | grep sink_name=virtual | cut -f1 | xargs pactl unload-module
    (sleep 3; pactl unload-module $MEETING) >&2 &
    "$@" 2>"$ERRORS"
    """
    heard_by = LISTEN + "\nimport ctypes\nlibc = ctypes.CDLL(None)\nlibc.perror(b'another part')\n"
    found = heard(tmp_path, script, 6, "mic:default", program=heard_by)
    assert "the microphone was disconnected" in found["notices"][0]
    lines = (tmp_path / "errors").read_text().splitlines()
    assert lines and all(line.startswith("another part") for line in lines)
