from __future__ import annotations

import numpy as np
import pytest

from model.encoders.silero import SileroVad
from stream.block import RATE
from stream.speech.endpointing import Endpointing
from stream.speech.segmenter import VadSegmenter
from stream.speech.vad import FrameVad, HighPass, WebRtcVad


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


@pytest.mark.parametrize(
    ("hertz", "gain_db"), [(0, -100), (50, -24.1), (60, -17.8), (100, -3), (200, -0.02), (1000, 0)]
)
def test_the_high_pass_is_a_butterworth_of_fourth_order(hertz: float, gain_db: float) -> None:
    tone = np.cos(2 * np.pi * hertz * np.arange(2 * RATE) / RATE).astype(np.float32)
    high_pass = HighPass()
    passed = np.concatenate([high_pass(tone[at : at + 700]) for at in range(0, len(tone), 700)])[RATE:]
    level = 20 * np.log10(np.sqrt((passed**2).mean() / (tone[RATE:] ** 2).mean()) + 1e-9)
    assert level < -80 if hertz == 0 else level == pytest.approx(gain_db, abs=0.3)
