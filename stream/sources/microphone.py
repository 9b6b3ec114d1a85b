"""A live microphone, through sounddevice."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from stream.block import BLOCK, RATE, Block
from stream.errors import MediaError

MAX_BLOCKS = 100  # blocks (4 s) kept for a reader that falls behind; then the oldest go, and are counted
OVERFLOW = "the sound card lost samples: this machine is too busy to empty its buffer in time"
STALLED_S = 5  # seconds without a block after which a device counts as gone; even silence comes in blocks


class MicrophoneSource:
    """Blocks from an input device until `stop()`."""

    repaired = 0
    video = False

    def __init__(
        self,
        device: str | int | None = None,
        channels: int = 1,
        pulse: str | None = None,
    ) -> None:
        """device: name or number as `undertone doctor` lists them, None for the system's default. pulse: a source of
        PulseAudio or PipeWire by its own name, such as the monitor of a loudspeaker (what a meeting plays).

        Raises MediaError when PortAudio or the device is missing, or the device cannot record so.
        """
        sounddevice = _portaudio()
        if pulse is not None:
            device = "pulse"  # ALSA's plug-in, which asks the environment when a stream is opened
            os.environ["PULSE_SOURCE"] = pulse
        self._pulse = pulse
        self._queue: queue.Queue[Any] = queue.Queue(MAX_BLOCKS)
        self._lost = 0
        self._overflowed = False
        self._stopping = threading.Event()
        self.channels = channels
        self.split = channels > 1
        self.ended_early: str | None = None
        try:
            info = sounddevice.query_devices(device, "input")
            sounddevice.check_input_settings(device, channels, "float32", samplerate=RATE)
        except (sounddevice.PortAudioError, ValueError) as error:
            wanted = "the default microphone" if device is None else f"microphone {device!r}"
            reason = str(error).splitlines()[0]
            raise MediaError(f"cannot record from {wanted}: {reason}; `undertone doctor` lists devices") from None
        self.name = f"microphone: {info['name']}" if pulse is None else f"monitor: {pulse}"
        self._device = device

    def _receive(self, samples: Any, count: int, time: Any, status: Any) -> None:
        if status.input_overflow:
            self._overflowed = True
        block = np.ascontiguousarray(samples.T)
        while True:
            try:
                self._queue.put_nowait(block)
                return
            except queue.Full:
                try:
                    self._lost += self._queue.get_nowait().shape[1]
                except (queue.Empty, AttributeError):
                    continue

    def _finished(self) -> None:
        if not self._stopping.is_set():
            self.ended_early = "the microphone went away"
        self._stopping.set()

    def stop(self) -> None:
        """End the recording; what was heard is still delivered."""
        self._stopping.set()

    def __iter__(self) -> Iterator[Block]:
        number = done = silent = 0
        # Opened here and not before: nobody is recorded before the session has begun.
        sounddevice = _portaudio()
        if self._pulse is not None:
            os.environ["PULSE_SOURCE"] = self._pulse  # another source may have set its own since
        try:
            stream = sounddevice.InputStream(
                samplerate=RATE,
                blocksize=BLOCK,
                device=self._device,
                channels=self.channels,
                dtype="float32",
                callback=self._receive,
                finished_callback=self._finished,
            )
            stream.start()
        except sounddevice.PortAudioError as error:
            raise MediaError(f"cannot record from the {self.name}: {str(error).splitlines()[0]}") from None
        try:
            while not (self._stopping.is_set() and self._queue.empty()):
                try:
                    samples = self._queue.get(timeout=0.2)
                except queue.Empty:
                    silent += 1
                    if silent * 0.2 >= STALLED_S:
                        self.ended_early = f"the microphone has given no sound for {STALLED_S} s"
                        return
                    continue
                silent = 0
                lost, self._lost = self._lost, 0
                notice, self._overflowed = OVERFLOW if self._overflowed else None, False
                lag = self._queue.qsize() * BLOCK / RATE
                yield Block(number, (done + lost) / RATE, samples, dropped=lost / RATE, lag=lag, notice=notice)
                number, done = number + 1, done + lost + samples.shape[1]
        finally:
            self._stopping.set()
            stream.close()


def input_devices() -> list[str]:
    """The devices that can record, as PortAudio numbers and names them. Raises MediaError without PortAudio."""
    devices = _portaudio().query_devices()
    return [f"{number}: {entry['name']}" for number, entry in enumerate(devices) if entry["max_input_channels"] > 0]


def _portaudio() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise MediaError(f"{error}: install the system package libportaudio2") from None
    return sounddevice
