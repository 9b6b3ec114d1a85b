"""Named sources of PulseAudio and PipeWire, such as the monitor of a loudspeaker, through libpulse."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from stream.block import BLOCK_SAMPLES, RATE
from stream.errors import MediaError
from stream.sources.capture import CaptureSource

OPEN_TIMEOUT_S = 10.0  # for the sound server to answer
# Constants of pulse/def.h and pulse/sample.h.
CONTEXT_READY, CONTEXT_FAILED, CONTEXT_TERMINATED = 4, 5, 6
STREAM_READY, STREAM_FAILED, STREAM_TERMINATED = 2, 3, 4
START_CORKED, DONT_MOVE, ADJUST_LATENCY = 0x0001, 0x0200, 0x2000
FLOAT32LE = 5
POINTERS = "pa_threaded_mainloop_new", "pa_threaded_mainloop_get_api", "pa_context_new", "pa_stream_new"
Notified = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
Readable = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class SampleSpec(ctypes.Structure):
    """pa_sample_spec."""

    _fields_ = (("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8))


class BufferAttributes(ctypes.Structure):
    """pa_buffer_attr, in bytes; 2³² - 1 leaves a value to the server."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize"))


class PulseSource(CaptureSource):
    """Blocks from a source of the sound server, until `stop()`.

    The name belongs to this stream and not to the process, so that several record at once. A named source that goes
    away ends the stream: else the server would put another device, with other people before it, in its place. The
    default microphone may become another, which is said.
    """

    def __init__(self, source: str | None = None, channels: int = 1) -> None:
        """source: a name as in `pactl list short sources`, or @DEFAULT_MONITOR@; None for the default microphone.

        Raises MediaError if libpulse, the server or the source is missing.
        """
        super().__init__("microphone: default" if source is None else f"monitor: {source}", channels)
        self._source = source
        with _Connection(self, source, START_CORKED) as device:  # which records nothing yet
            self.name = f"{self.name.partition(':')[0]}: {device}"

    def opened(self) -> AbstractContextManager[object]:
        return _Connection(self, self._source)


class _Connection:
    """A connection to the sound server with one stream, whose samples a thread of libpulse hands to the source."""

    def __init__(self, owner: CaptureSource, source: str | None, flags: int = 0) -> None:
        """source: None for the default microphone; flags: of the stream, beside those that it always has."""
        self._owner, self._source = owner, source
        self._flags = flags | ADJUST_LATENCY | (0 if source is None else DONT_MOVE)
        self._changed = threading.Event()
        self._on_change, self._on_data = Notified(self._state_changed), Readable(self._read)  # held for libpulse
        self._on_move = Notified(self._moved)
        self._pulse = pulse = _libpulse()
        self._mainloop = ctypes.c_void_p(pulse.pa_threaded_mainloop_new())
        api = ctypes.c_void_p(pulse.pa_threaded_mainloop_get_api(self._mainloop))
        self._context = ctypes.c_void_p(pulse.pa_context_new(api, b"Undertone"))
        self._stream = ctypes.c_void_p()

    def __enter__(self) -> str:
        """Connect and start the stream; returns the name of its device. Raises MediaError."""
        pulse = self._pulse
        pulse.pa_context_set_state_callback(self._context, self._on_change, None)
        pulse.pa_threaded_mainloop_start(self._mainloop)
        try:
            with self._locked():
                pulse.pa_context_connect(self._context, None, 0, None)
            self._wait(lambda: pulse.pa_context_get_state(self._context), CONTEXT_READY, CONTEXT_FAILED)
            with self._locked():
                self._start_stream()
            self._wait(lambda: pulse.pa_stream_get_state(self._stream), STREAM_READY, STREAM_FAILED)
            with self._locked():
                return self._device()
        except MediaError:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._pulse.pa_threaded_mainloop_stop(self._mainloop)  # no callback comes after this
        self._pulse.pa_context_set_state_callback(self._context, None, None)  # nor of our own disconnecting
        if self._stream:
            self._pulse.pa_stream_set_state_callback(self._stream, None, None)
            self._pulse.pa_stream_disconnect(self._stream)
            self._pulse.pa_stream_unref(self._stream)
        self._pulse.pa_context_disconnect(self._context)
        self._pulse.pa_context_unref(self._context)
        self._pulse.pa_threaded_mainloop_free(self._mainloop)

    def _start_stream(self) -> None:
        """Ask for 16 kHz float32 in blocks of 40 ms. Raises MediaError for a number of channels without a layout."""
        pulse, channels = self._pulse, self._owner.channels
        spec = SampleSpec(FLOAT32LE, RATE, channels)
        self._stream = ctypes.c_void_p(pulse.pa_stream_new(self._context, b"recognition", ctypes.byref(spec), None))
        if not self._stream:
            raise self._error(self._reason())
        pulse.pa_stream_set_state_callback(self._stream, self._on_change, None)
        pulse.pa_stream_set_read_callback(self._stream, self._on_data, None)
        pulse.pa_stream_set_moved_callback(self._stream, self._on_move, None)
        default = ctypes.c_uint32(-1).value
        block = BufferAttributes(default, default, default, default, 4 * channels * BLOCK_SAMPLES)
        name = None if self._source is None else self._source.encode()
        if pulse.pa_stream_connect_record(self._stream, name, ctypes.byref(block), self._flags) < 0:
            raise self._error(self._reason())

    def _wait(self, state: Callable[[], int], opened: int, failed: int) -> None:
        """Wait until a state is `opened`. Raises MediaError if it is `failed` or beyond, or nothing comes."""
        while True:
            self._changed.clear()
            with self._locked():
                reached, reason = state(), self._reason()
            if reached == opened:
                return
            if reached >= failed:
                raise self._error(reason)
            if not self._changed.wait(OPEN_TIMEOUT_S):
                raise self._error(f"the sound server has not answered for {OPEN_TIMEOUT_S:.0f} s")

    def _state_changed(self, *_: object) -> None:
        """Callback: something begins or ends."""
        if self._stream and (
            self._pulse.pa_context_get_state(self._context) >= CONTEXT_FAILED
            or self._pulse.pa_stream_get_state(self._stream) >= STREAM_FAILED
        ):
            self._owner.finish(f"the sound server ended the recording ({self._reason()})")
        self._changed.set()

    def _moved(self, *_: object) -> None:
        """Callback: the server has put another device in place of the default microphone."""
        self._owner.tell(f"{self._owner.name} is no longer used: the sound server now records from {self._device()}")

    def _read(self, *_: object) -> None:
        """Callback: samples are there."""
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        while not self._pulse.pa_stream_peek(self._stream, ctypes.byref(data), ctypes.byref(size)) and size.value:
            is_hole = not data.value  # lost before it could be read
            content = bytes(size.value) if is_hole else ctypes.string_at(data, size.value)
            self._pulse.pa_stream_drop(self._stream)
            self._owner.receive(np.frombuffer(content, "<f4").reshape(-1, self._owner.channels), is_hole)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the thread of libpulse out."""
        self._pulse.pa_threaded_mainloop_lock(self._mainloop)
        try:
            yield
        finally:
            self._pulse.pa_threaded_mainloop_unlock(self._mainloop)

    def _device(self) -> str:
        name = self._pulse.pa_stream_get_device_name(self._stream)
        return str(name.decode(errors="replace")) if name else "default"

    def _reason(self) -> str:
        return str(self._pulse.pa_strerror(self._pulse.pa_context_errno(self._context)).decode(errors="replace"))

    def _error(self, reason: str) -> MediaError:
        return MediaError(f"cannot record from {self._owner.name}: {reason}; `pactl list short sources` lists names")


@functools.cache
def _libpulse() -> Any:
    """The library. Raises MediaError if it is missing."""
    try:
        library = ctypes.CDLL("libpulse.so.0")
    except OSError as error:
        raise MediaError(f"{error}: install the system package libpulse0") from None
    for name in POINTERS:
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("pa_strerror", "pa_stream_get_device_name"):
        getattr(library, name).restype = ctypes.c_char_p
    return library
