"""Speaker embeddings, and speaker change detection within an utterance.

The network is the GE2E encoder of Wan et al. 2018 (arXiv 1710.10467) with the weights that the package Resemblyzer
contains (Apache-2.0), as float16 safetensors in model/encoders/weights/speaker.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from model.encoders.transcription import RATE

Array = NDArray[np.float32]

WIDTH = 256
WINDOW_FRAMES = 160  # mel frames of 10 ms: the network's input
HOP_FRAMES = 77  # between the windows of a longer utterance
CHANGE_STEP_FRAMES = 40  # between the positions that are tested for a change of speaker
MAX_CHANGE_SIMILARITY = 0.72  # above, the speaker has not changed
MIN_SIMILARITY_DIP = 0.06  # by which the similarity is lower than the highest within 2 s on either side
MIN_PART_S = 1.0  # embeddings of shorter parts are not reliable


class SpeakerEncoder(nn.Module):
    """Maps utterances to unit vectors; the dot product of two is the similarity of their voices."""

    window: Tensor
    filters: Tensor

    def __init__(self, folder: Path = Path(__file__).parent / "weights" / "speaker") -> None:
        from transformers.audio_utils import mel_filter_bank  # slow to import

        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, WIDTH)
        self.load_state_dict({name: value.float() for name, value in load_file(folder / "model.safetensors").items()})
        mel = mel_filter_bank(201, 40, 0.0, 8000.0, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", torch.tensor(mel.T, dtype=torch.float32))
        self.register_buffer("window", torch.hann_window(400))
        self.eval()

    @torch.inference_mode()
    def __call__(self, samples: Array) -> Array:
        """[256] float32 unit vector of an utterance [n] float32 at 16 kHz; a short one is repeated to fill a window."""
        mel = self._mel(samples)
        return _unit(self._embed_windows(mel, range(0, max(1, len(mel) - WINDOW_FRAMES + 1), HOP_FRAMES)).mean(0))

    @torch.inference_mode()
    def changes(self, samples: Array) -> list[float]:
        """Seconds into an utterance [n] float32 at 16 kHz at which the speaker changes, in order.

        The 1.6 s before are compared with the 1.6 s after; the deepest minima of their similarity, if below
        `MAX_CHANGE_SIMILARITY`, are changes.
        """
        mel = self._mel(samples)
        if len(mel) < 2 * WINDOW_FRAMES:
            return []
        starts = range(0, len(mel) - WINDOW_FRAMES + 1, CHANGE_STEP_FRAMES)
        embeddings = self._embed_windows(mel, starts)
        apart = WINDOW_FRAMES // CHANGE_STEP_FRAMES
        alike = (embeddings[:-apart] * embeddings[apart:]).sum(1)
        near = 200 // CHANGE_STEP_FRAMES
        found: list[float] = []
        for n in np.argsort(alike):
            moment = (starts[int(n)] + WINDOW_FRAMES) / 100
            shoulders = alike[max(0, n - near) : n + 1].max(), alike[n : n + near + 1].max()
            if alike[n] < min(MAX_CHANGE_SIMILARITY, min(shoulders) - MIN_SIMILARITY_DIP) and all(
                abs(moment - other) >= MIN_PART_S for other in (*found, 0.0, len(samples) / RATE)
            ):
                found.append(moment)
        return sorted(found)

    def _mel(self, samples: Array) -> Tensor:
        """[frames, 40] mel power, at least `WINDOW_FRAMES`; an utterance below -30 dB is amplified to that level."""
        level = float(np.sqrt((samples**2).mean())) if len(samples) else 0.0
        louder = max(1.0, 10**-1.5 / max(level, 1e-6))
        padded = torch.from_numpy(np.pad(samples * np.float32(louder), (200, max(200, 600 - len(samples)))))
        spectrum = torch.stft(padded, 400, 160, window=self.window, center=False, return_complex=True)
        mel = (self.filters @ spectrum.abs().square()).T
        return mel if len(mel) >= WINDOW_FRAMES else mel.repeat(-(-WINDOW_FRAMES // len(mel)), 1)[:WINDOW_FRAMES]

    def _embed_windows(self, mel: Tensor, starts: range) -> Array:
        """[len(starts), 256] unit vectors of the windows that begin at these frames."""
        _, (hidden, _) = self.lstm(torch.stack([mel[start : start + WINDOW_FRAMES] for start in starts]))
        raw = self.linear(hidden[-1]).relu()
        embeddings: Array = nn.functional.normalize(raw, dim=1).numpy()
        return embeddings


def narrowband(samples: Array) -> bool:
    """True when an utterance [n] float32 at 16 kHz came over a telephone: less than -42 dB of its power is above 4.3
    kHz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    above = power[round(4300 * len(samples) / RATE) :].sum()
    return bool(above < 10**-4.2 * power.sum())


def _unit(vector: Array) -> Array:
    unit: Array = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return unit
