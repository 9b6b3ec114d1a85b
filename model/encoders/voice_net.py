"""The voice encoder as it is trained: see `model.encoders.voice`, which runs its export."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.encoders.spectrum import HOP_SAMPLES, WINDOW_SAMPLES
from model.encoders.transcription import RATE
from model.labels import RAVDESS

MEL_BANDS = 64
RANGE_DECADES = 6.0  # dynamic range of the power, below the loudest band


class VoiceNet(nn.Module):
    """Log-mel spectrogram, three residual stages, attentive statistics over time (Okabe et al. 2018), a linear
    layer."""

    temperature: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 160), dropout: float = 0.3) -> None:
        from transformers.audio_utils import mel_filter_bank  # slow to import

        super().__init__()
        mel = mel_filter_bank(WINDOW_SAMPLES // 2 + 1, MEL_BANDS, 60.0, 7600.0, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filters", torch.tensor(mel.T, dtype=torch.float32), persistent=False)
        self.register_buffer("temperature", torch.ones(()))
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        strides = ((2, 2), (2, 2), (2, 1))
        self.stages = nn.Sequential(
            *(Residual(a, b, stride) for a, b, stride in zip(widths, widths[1:], strides, strict=False))
        )
        width = widths[-1]
        self.squeeze = nn.Sequential(nn.Conv1d(width * MEL_BANDS // 16, width, 1), nn.BatchNorm1d(width), nn.ReLU())
        self.attention = nn.Conv1d(width, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, len(RAVDESS))

    def log_mel(self, samples: Tensor) -> Tensor:
        """Samples [B, n] float32 at 16 kHz -> log10 mel power [B, MEL_BANDS, frames]: the maximum is 0, the least
        -RANGE_DECADES."""
        spectrum = torch.stft(
            samples, WINDOW_SAMPLES, HOP_SAMPLES, window=self.window, center=False, return_complex=True
        )
        return self.levels(spectrum.abs().square())

    def levels(self, power: Tensor) -> Tensor:
        """Power spectra [B, BINS, frames] -> as `log_mel`."""
        mel = (self.filters @ power).clamp(min=1e-12).log10()
        return (mel - mel.amax((1, 2), keepdim=True)).clamp(min=-RANGE_DECADES)

    def embed(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """Spectrograms [B, MEL_BANDS, T], of which the first `frames` [B] int64 count -> embeddings [B, 2 · width]."""
        scaled = log_mel[:, None] / RANGE_DECADES + 0.5
        x = self.squeeze(self.stages(self.stem(scaled)).flatten(1, 2))  # [B, width, T / 8]
        here = torch.arange(x.shape[-1], device=x.device) < (frames[:, None] + 7) // 8
        weight = self.attention(x).squeeze(1).masked_fill(~here, -1e9).softmax(-1)[:, None]
        mean = (x * weight).sum(-1)
        deviation = ((x**2 * weight).sum(-1) - mean**2).clamp(min=1e-6).sqrt()
        return torch.cat([mean, deviation], 1)

    def forward(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """Calibrated logits [B, 8] of `RAVDESS` for spectrograms [B, MEL_BANDS, T] with `frames` [B] int64 that
        count."""
        logits: Tensor = self.head(self.dropout(self.embed(log_mel, frames)))
        return logits / self.temperature


class Residual(nn.Module):
    """Residual block (He et al. 2016): two 3 x 3 convolutions and a projection shortcut."""

    def __init__(self, width: int, wider: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider))
        self.shortcut = nn.Sequential(nn.Conv2d(width, wider, 1, stride, bias=False), nn.BatchNorm2d(wider))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> [B, wider, h / stride, w / stride]."""
        sum_: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return sum_.relu()


def load(folder: Path) -> VoiceNet:
    """The network of a folder with config.json and model.safetensors, for labelling without its export."""
    card = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    network = VoiceNet(tuple(card["widths"])).eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network
