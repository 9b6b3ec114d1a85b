"""Live microphones: the sound server's, or any device that PortAudio (sounddevice) knows."""

from __future__ import annotations

import atexit
import ctypes
import functools
import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stream.block import BLOCK_SAMPLES, RATE
from stream.errors import MediaError
from stream.sources.capture import CaptureSource
from stream.sources.pulse import PulseSource

log = logging.getLogger(__name__)
DRIVER_LINE = re.compile(rb"ALSA lib |Expression '.*' failed in |Cannot connect to server |jack server |JackShm")
LINE_BUFFERED = 1  # _IOLBF of stdio.h
_Write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


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
            if device is None and not _has_input(sounddevice):
                raise MediaError("no input device is here; `undertone doctor` says how to get one") from None
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
    return found + [f"{number}: {entry['name']}" for number, entry in enumerate(devices) if _takes_input(entry)]


def _takes_input(entry: Any) -> bool:
    """True for a device of PortAudio that records."""
    return bool(entry["max_input_channels"] > 0)


def _has_input(sounddevice: Any) -> bool:
    """True if PortAudio has a device that records."""
    return any(_takes_input(entry) for entry in sounddevice.query_devices())


def _portaudio() -> Any:
    """The module sounddevice. Raises MediaError if PortAudio is missing."""
    _divert_driver_lines()
    try:
        import sounddevice
    except OSError as error:
        raise MediaError(f"{error}: install the system package libportaudio2") from None
    return sounddevice


class _StreamFunctions(ctypes.Structure):
    """cookie_io_functions_t of the GNU C library."""

    _fields_ = (("read", ctypes.c_void_p), ("write", _Write), ("seek", ctypes.c_void_p), ("close", ctypes.c_void_p))


def _write_line(_cookie: object, text: Any, size: int) -> int:
    """Callback: C code has written to `stderr`. Lines of sound drivers are logged, all others shown as ever."""
    line = ctypes.string_at(text, size)
    if DRIVER_LINE.match(line) or not line.strip():
        log.debug("%s", line.decode(errors="replace").strip())
    else:
        os.write(2, line)
    return size


@functools.cache
def _divert_driver_lines() -> None:
    """Keep what PortAudio and ALSA write about each device that they try off the terminal; errors are raised besides.

    Python and most C++ code write to the descriptor, so they are not concerned. Elsewhere than on the GNU C library
    nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.fopencookie.restype = ctypes.c_void_p
    libc.fopencookie.argtypes = ctypes.c_void_p, ctypes.c_char_p, _StreamFunctions
    libc.setvbuf.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    file = libc.fopencookie(None, b"w", _StreamFunctions(write=_on_write))
    if not file:
        return
    libc.setvbuf(file, None, LINE_BUFFERED, 0)
    stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    atexit.register(setattr, stderr, "value", stderr.value)  # before Python is gone, which the callback needs
    stderr.value = file


_on_write = _Write(_write_line)  # held for C
