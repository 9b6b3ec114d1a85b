from __future__ import annotations

import numpy as np
import pytest

from model.encoders.silero import SileroVad
from stream.block import RATE
from stream.speech.segmenter import Endpointing, VadSegmenter
from stream.speech.vad import FrameVad, WebRtcVad


@pytest.mark.parametrize("make", [WebRtcVad, SileroVad])
def test_detectors_agree_with_the_demos_script(make: type[FrameVad], demo_audio: np.ndarray) -> None:
    """Each channel's seven lines, each within a quarter of a second, pre-roll apart."""
    for channel, starts in ((0, [0.6, 8.9, 15.0]), (1, [5.1, 12.6, 18.5])):
        segmenter = VadSegmenter(make(), Endpointing())
        found = segmenter.push(demo_audio[channel]) + segmenter.flush()
        assert len(found) == 7
        assert np.allclose([u.start + 0.3 for u in found[:3]], starts, atol=0.25)


def test_silero_is_the_same_frame_by_frame_as_in_faster_whisper(demo_audio: np.ndarray) -> None:
    from faster_whisper.vad import get_vad_model

    audio = demo_audio[0, : 512 * 100].copy()
    vad = SileroVad()
    ours = [vad(frame) for frame in audio.reshape(-1, 512)]
    assert np.allclose(ours, np.ravel(get_vad_model()(audio.copy())), atol=1e-3)


def test_webrtc_hears_nothing_in_steady_noise() -> None:
    vad, rng = WebRtcVad(), np.random.default_rng(0)
    heard = [vad(rng.normal(0, 0.05, 320).astype(np.float32)) for _ in range(500)]
    assert np.mean(heard[50:]) < 0.05
    assert vad(np.zeros(RATE // 50, np.float32)) == 0
