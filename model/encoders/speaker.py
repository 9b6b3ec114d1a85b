"""Whose voice: speaker embeddings, and the places in an utterance where the voice changes.

The network is the GE2E encoder of Wan et al. 2018 (arXiv 1710.10467) with the weights that the package Resemblyzer
carries (Apache-2.0), as float16 safetensors in model/encoders/weights/speaker.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

Array = NDArray[np.float32]

RATE = 16_000
WIDTH = 256
FRAMES = 160  # of 10 ms: what the network hears at once
HOP = 77  # frames between hearings of a longer utterance
STEP = 40  # frames between the places where a change of voice is looked for
CHANGE, DIP = 0.72, 0.06  # similarity below which the voice may have changed, and how far it rises again within 2 s
SHORTEST_PART = 1.0  # seconds; shorter parts have no embedding worth comparing


class SpeakerEncoder(nn.Module):
    """Utterances to unit vectors; the dot product of two says how alike their voices are."""

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
        """[256] unit vector of an utterance [n] at 16 kHz; a short one is repeated until the network can hear it."""
        mel = self._mel(samples)
        return _unit(self._embed_windows(mel, range(0, max(1, len(mel) - FRAMES + 1), HOP)).mean(0))

    @torch.inference_mode()
    def changes(self, samples: Array) -> list[float]:
        """Seconds into an utterance [n] at which another voice goes on.

        Compares the 1.6 s before with the 1.6 s after; the deepest dips of their similarity below `CHANGE` are changes.
        """
        mel = self._mel(samples)
        if len(mel) < 2 * FRAMES:
            return []
        starts = range(0, len(mel) - FRAMES + 1, STEP)
        embeddings = self._embed_windows(mel, starts)
        apart = FRAMES // STEP
        alike = (embeddings[:-apart] * embeddings[apart:]).sum(1)
        near = 200 // STEP
        found: list[float] = []
        for n in np.argsort(alike):
            moment = (starts[int(n)] + FRAMES) / 100
            shoulders = alike[max(0, n - near) : n + 1].max(), alike[n : n + near + 1].max()
            if alike[n] < min(CHANGE, min(shoulders) - DIP) and all(
                abs(moment - other) >= SHORTEST_PART for other in (*found, 0.0, len(samples) / RATE)
            ):
                found.append(moment)
        return sorted(found)

    def _mel(self, samples: Array) -> Tensor:
        """[frames, 40], raised to -30 dB where quieter; at least FRAMES."""
        level = float(np.sqrt((samples**2).mean())) if len(samples) else 0.0
        louder = max(1.0, 10**-1.5 / max(level, 1e-6))
        padded = torch.from_numpy(np.pad(samples * np.float32(louder), (200, max(200, 600 - len(samples)))))
        spectrum = torch.stft(padded, 400, 160, window=self.window, center=False, return_complex=True)
        mel = (self.filters @ spectrum.abs().square()).T
        return mel if len(mel) >= FRAMES else mel.repeat(-(-FRAMES // len(mel)), 1)[:FRAMES]

    def _embed_windows(self, mel: Tensor, starts: range) -> Array:
        """[starts, 256] unit vectors of the stretches from each start."""
        _, (hidden, _) = self.lstm(torch.stack([mel[start : start + FRAMES] for start in starts]))
        raw = self.linear(hidden[-1]).relu()
        embeddings: Array = nn.functional.normalize(raw, dim=1).numpy()
        return embeddings


def narrowband(samples: Array) -> bool:
    """Whether an utterance [n] at 16 kHz came over a telephone: less than -42 dB of its power lies above 4.3 kHz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    above = power[round(4300 * len(samples) / RATE) :].sum()
    return bool(above < 10**-4.2 * power.sum())


def _unit(vector: Array) -> Array:
    unit: Array = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return unit
