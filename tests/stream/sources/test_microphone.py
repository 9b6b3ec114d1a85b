from __future__ import annotations

import pytest

from stream.errors import MediaError
from stream.sources.microphone import MicrophoneSource


@pytest.mark.parametrize("device", ["no such microphone", 999])
@pytest.mark.integration
def test_an_unknown_device_is_one_clear_line(device: str | int) -> None:
    with pytest.raises(MediaError, match="cannot record from microphone") as error:
        MicrophoneSource(device)
    assert "\n" not in str(error.value) and "doctor" in str(error.value)
