from __future__ import annotations

import numpy as np
import pytest

from stream.block import BLOCK_SAMPLES
from stream.errors import MediaError
from stream.sources.capture import MAX_BLOCKS, CaptureSource
from stream.sources.microphone import MicrophoneSource


class Opened:
    """A device that delivers what `deliver` hands to the source, and then ends."""

    def __init__(self, source: CaptureSource, values: list[float], channels: int) -> None:
        self._source, self._values, self._channels = source, values, channels

    def __enter__(self) -> None:
        buffer = np.zeros((BLOCK_SAMPLES, self._channels), np.float32)  # one for all, as in PortAudio
        for value in self._values:
            buffer[:] = value
            self._source.receive(buffer, overflowed=False)
        self._source.finish("unplugged")

    def __exit__(self, *_: object) -> None:
        pass


class Captured(CaptureSource):
    def __init__(self, values: list[float], channels: int = 1) -> None:
        super().__init__("device", channels)
        self._values = values

    def opened(self) -> Opened:
        return Opened(self, self._values, self.channels)


@pytest.mark.parametrize("channels", [1, 2])
def test_samples_outlive_the_buffer_of_the_sound_library(channels: int) -> None:
    """A reader that is late hears each block, not the last one again and again."""
    source = Captured([0.1, 0.2, 0.3], channels)
    blocks = list(source)
    assert [block.samples.shape for block in blocks] == [(channels, BLOCK_SAMPLES)] * 3
    assert [float(block.samples.max()) for block in blocks] == pytest.approx([0.1, 0.2, 0.3])
    assert source.ended_early == "unplugged"


def test_a_reader_that_is_far_too_late_loses_the_oldest_and_is_told() -> None:
    blocks = list(Captured([n / 1000 for n in range(MAX_BLOCKS + 5)]))
    assert blocks[0].dropped == pytest.approx(5 * 0.04) and blocks[0].start == pytest.approx(5 * 0.04)
    assert [float(block.samples[0, 0]) for block in blocks] == pytest.approx([n / 1000 for n in range(5, 105)])


@pytest.mark.parametrize("device", ["no such microphone", 999])
@pytest.mark.integration
def test_an_unknown_device_is_one_clear_line(device: str | int) -> None:
    with pytest.raises(MediaError, match="cannot record from microphone") as error:
        MicrophoneSource(device)
    assert "\n" not in str(error.value) and "doctor" in str(error.value)
