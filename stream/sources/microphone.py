"""Live microphones: the sound server's, or any device that PortAudio (sounddevice) knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stream.block import BLOCK_SAMPLES, RATE
from stream.errors import MediaError
from stream.sources.capture import CaptureSource
from stream.sources.pulse import PulseSource


class MicrophoneSource(CaptureSource):
    """Blocks from an input device until `stop()`."""

    def __init__(self, device: str | int | None = None, channels: int = 1) -> None:
        """device: name or number as `undertone doctor` lists them, None for the system's default.

        Raises MediaError if PortAudio or the device is missing, or the device does not support 16 kHz with so many
        channels.
        """
        sounddevice = _portaudio()
        try:
            info = sounddevice.query_devices(device, "input")
            sounddevice.check_input_settings(device, channels, "float32", samplerate=RATE)
        except (sounddevice.PortAudioError, ValueError) as error:
            wanted = "the default microphone" if device is None else f"microphone {device!r}"
            reason = str(error).splitlines()[0]
            raise MediaError(f"cannot record from {wanted}: {reason}; `undertone doctor` lists devices") from None
        super().__init__(f"microphone: {info['name']}", channels)
        self._device = device

    @contextmanager
    def opened(self) -> Iterator[None]:
        sounddevice = _portaudio()
        try:
            stream = sounddevice.InputStream(
                samplerate=RATE,
                blocksize=BLOCK_SAMPLES,
                device=self._device,
                channels=self.channels,
                dtype="float32",
                callback=lambda samples, _count, _time, status: self.receive(samples, status.input_overflow),
                finished_callback=lambda: self.finish("the microphone was disconnected"),
            )
            stream.start()
        except sounddevice.PortAudioError as error:
            raise MediaError(f"cannot record from the {self.name}: {str(error).splitlines()[0]}") from None
        try:
            yield
        finally:
            stream.close()


def default_microphone(channels: int = 1) -> CaptureSource:
    """The microphone that the user has chosen in the sound server (PulseAudio, PipeWire); without one, PortAudio's.

    Raises MediaError if there is neither.
    """
    try:
        return PulseSource(None, channels)
    except MediaError:
        return MicrophoneSource(None, channels)


def input_devices() -> list[str]:
    """The sound server's microphone, and input devices as "NUMBER: NAME" by PortAudio's numbers.

    Raises MediaError if PortAudio is missing and no sound server answers.
    """
    found: list[str] = []
    with suppress(MediaError):
        found.append(f"default: {PulseSource().name.partition(': ')[2]}")
    try:
        devices = _portaudio().query_devices()
    except MediaError:
        if not found:
            raise
        return found
    return found + [
        f"{number}: {entry['name']}" for number, entry in enumerate(devices) if entry["max_input_channels"] > 0
    ]


def _portaudio() -> Any:
    """The module sounddevice. Raises MediaError if PortAudio is missing."""
    try:
        import sounddevice
    except OSError as error:
        raise MediaError(f"{error}: install the system package libportaudio2") from None
    return sounddevice
