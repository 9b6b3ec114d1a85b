"""Arrays and bytes as sources."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stream.block import BLOCK_SAMPLES, RATE
from stream.sources.file import FileSource
from tests.support.paths import DEMO
from workers.api.samples import MAX_QUEUED_S, PushedSamples, as_array, as_wav
from workers.errors import UsageError

NOISE = np.random.default_rng(0).normal(0, 0.1, (2, RATE)).astype(np.float32)


def heard(source: FileSource | PushedSamples) -> np.ndarray:
    return np.concatenate([block.samples for block in source], 1)


@pytest.mark.parametrize("kind", ["float32", "float64", "int16"])
def test_an_array_is_a_recording(kind: str) -> None:
    pcm = (NOISE * 32768).astype(np.int16) if kind == "int16" else NOISE.astype(kind)
    expected = pcm.astype(np.float32) / 32768 if kind == "int16" else NOISE
    source = FileSource(DEMO, "split", content=as_wav(pcm, RATE))
    assert np.array_equal(heard(source), expected)
    assert source.info.rate == RATE and source.info.duration == 1.0


@pytest.mark.parametrize("kind", ["float32", "int16", "bytes"])
@pytest.mark.parametrize("rate", [RATE, 48_000])
async def test_what_is_pushed_is_what_a_file_of_it_has(kind: str, rate: int) -> None:
    pcm = NOISE if kind == "float32" else (NOISE * 32768).astype(np.int16)
    whole = heard(FileSource(DEMO, "split", content=as_wav(pcm, rate)))
    pushed = PushedSamples(rate, 2)
    for first in range(0, RATE, 1_000):
        piece = pcm[:, first : first + 1_000]
        await pushed.push(piece.T.tobytes() if kind == "bytes" else piece)
    pushed.stop()
    blocks = list(pushed)
    assert np.array_equal(np.concatenate([block.samples for block in blocks], 1), whole)
    assert [block.start for block in blocks] == [n * BLOCK_SAMPLES / RATE for n in range(len(blocks))]


async def test_any_number_of_channels_is_pushed() -> None:
    for channels in (1, 3, 8, 16):
        pushed = PushedSamples(RATE, channels)
        await pushed.push(np.full((channels, 800), 0.5, np.float32))
        pushed.stop()
        assert np.array_equal(heard(pushed), np.full((channels, 800), 0.5)) and pushed.split == (channels > 1)


async def test_who_pushes_waits_for_who_reads() -> None:
    pushed = PushedSamples(RATE, 1)
    second = np.zeros(RATE, np.float32)
    for _ in range(round(MAX_QUEUED_S)):
        await pushed.push(second)
    waiting = asyncio.create_task(pushed.push(second))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    blocks = iter(pushed)
    await asyncio.to_thread(next, blocks)
    await asyncio.wait_for(waiting, 5)
    waiting = asyncio.create_task(pushed.push(second))
    await asyncio.sleep(0.05)
    pushed.stop()
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(UsageError, match="takes no more samples"):
        await pushed.push(second)


def test_other_arrays_are_refused_with_a_line() -> None:
    for wrong, words in (
        (np.zeros((2, 3, 4), np.float32), r"an array \[channels, n\] or \[n\], not \[2, 3, 4\]"),
        (np.zeros(5, np.int32), "int16, or floating point with full scale 1, not int32"),
        (np.zeros(0, np.float32), "there are none"),
        (np.zeros((1000, 2), np.float32), "1 to 16 channels, not 1000"),
    ):
        with pytest.raises(UsageError, match=words):
            as_wav(wrong, RATE)
    with pytest.raises(UsageError, match="rate: 4000 to 384000 Hz, not 44"):
        as_wav(NOISE, 44)
    with pytest.raises(UsageError, match=r"an array \[2, n\] or \[n\], not \[3, 10\]"):
        as_array(np.zeros((3, 10), np.float32), 2)
    with pytest.raises(UsageError, match="5 bytes are not whole samples of 16 bit and 1 channels"):
        as_array(b"12345", 1)
    with pytest.raises(UsageError, match="channels: 1 to 16, not 0"):
        PushedSamples(RATE, 0)
