from __future__ import annotations

import numpy as np
import pytest

from stream.block import RATE, Block, VideoFrame
from stream.speech.endpointing import Endpointing
from stream.speech.segmentation import Segmentation
from stream.speech.segmenter import VadSegmenter
from stream.speech.vad import WebRtcVad
from tests.support.recordings import voice


def blocks(audio: np.ndarray) -> list[Block]:
    """200 ms each, with a picture about every half second."""
    made = []
    for n in range(audio.shape[1] // 3200):
        image = np.full((2, 2, 3), n % 256, np.uint8)
        frames = (VideoFrame(n * 0.2, image),) if n % 5 in (0, 3) else ()
        made.append(Block(n, n * 0.2, audio[:, n * 3200 : (n + 1) * 3200], frames))
    return made


def test_utterances_of_two_channels_come_in_order_with_their_pictures() -> None:
    gap = np.zeros(RATE, np.float32)
    first = np.concatenate([voice(2, seed=1), gap, gap, gap])
    second = np.concatenate([gap, gap, voice(2, seed=2), gap])
    segmentation = Segmentation([VadSegmenter(WebRtcVad(), Endpointing(), n, f"speaker {n}") for n in range(2)])
    found = [u for block in blocks(np.stack([first, second])) for u in segmentation.push(block)]
    found += segmentation.flush()
    assert [u.speaker for u in found] == ["speaker 0", "speaker 1"]
    assert all(u.frames for u in found)
    assert all(u.start <= frame.time < u.end for u in found for frame in u.frames)
    assert segmentation.position == pytest.approx(5.0)


def test_pictures_are_not_kept_for_ever() -> None:
    segmentation = Segmentation([VadSegmenter(WebRtcVad(), Endpointing())])
    for block in blocks(np.zeros((1, 120 * RATE), np.float32)):
        segmentation.push(block)
    assert len(segmentation._frames) <= Segmentation.FRAME_HISTORY_S * 2 + 2
