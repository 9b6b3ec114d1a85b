"""`undertone doctor`, and the commands that name it."""

from __future__ import annotations

import pytest

from stream.errors import MediaError
from stream.sources.microphone import default_microphone, input_devices
from workers.cli.doctor import examine


@pytest.mark.integration
def test_a_machine_without_a_microphone_says_so() -> None:
    if input_devices():
        pytest.skip("there is a microphone")
    with pytest.raises(MediaError, match="^no input device is here; `undertone doctor` says how to get one$"):
        default_microphone()
    shown = {finding.part: finding for finding in examine(None, "meld")}["microphone"]
    assert shown.state == "missing" and "plug one in, or start PulseAudio or PipeWire" in shown.detail
