"""Sources as a command line names them: [NAME=]SOUND[+CAMERA]; `undertone live --help` explains them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from stream.errors import MediaError
from stream.sources.base import Source
from stream.sources.microphone import MicrophoneSource
from stream.sources.mixing import MixedSource, Participant
from stream.sources.network import NetworkSource
from stream.sources.reconnecting import ReconnectingSource

URL = re.compile(r"(rtsps?|rtmps?|https?|hls\+https?|srt|udp|rtp|tcp|unix)://.+", re.IGNORECASE)
NAMED = re.compile(r"([^:/=+?]+)=(.+)", re.DOTALL)


def participant(spec: str, channels: int, give_up: float, seconds: float | None = None) -> Participant:
    """The participant that a text like "Anna=mic:2+camera" names. Raises MediaError."""
    named = NAMED.fullmatch(spec)
    name, rest = (named[1].strip(), named[2]) if named else (None, spec)
    sound, plus, camera = rest.partition("+camera")
    sees = None
    if plus:
        device = camera.removeprefix(":") or "/dev/video0"
        sees = ReconnectingSource(functools.partial(NetworkSource, device, "v4l2", {"framerate": "15"}), give_up)
    return Participant(ReconnectingSource(_sound(sound or "mic", channels), give_up, seconds), sees, name)


def _sound(spec: str, channels: int) -> Callable[[], Source]:
    kind, _, which = spec.partition(":")
    if URL.fullmatch(spec):
        return functools.partial(NetworkSource, spec)
    if kind == "mic":
        device = int(which) if which.isdigit() else which or None
        return functools.partial(MicrophoneSource, device, channels)
    if kind == "monitor":
        return functools.partial(MicrophoneSource, None, channels, which or "@DEFAULT_MONITOR@")
    raise MediaError(f"no source {spec!r}: mic, mic:DEVICE, monitor, monitor:NAME or a URL, then perhaps +camera")


def listen(
    specs: Sequence[str], channels: int, seconds: float | None, give_up: float
) -> tuple[ReconnectingSource | MixedSource, dict[int, str]]:
    """The source of a live session, and the names given to its channels. Raises MediaError.

    channels: of each microphone; give_up: seconds after which a lost source counts as ended.
    """
    everyone = [participant(spec, channels, give_up, seconds) for spec in specs or ["mic"]]
    names, first = {}, 0
    for each in everyone:
        if each.name is not None:
            names[first] = each.name
        first += each.sound.channels
    if len(everyone) == 1 and everyone[0].camera is None:
        sound = everyone[0].sound
        assert isinstance(sound, ReconnectingSource)
        return sound, names
    return MixedSource(everyone, seconds), names
