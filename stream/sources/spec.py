"""Sources as named on the command line: [NAME=]SOUND[+CAMERA]; `undertone live --help` explains the syntax."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from stream.errors import MediaError
from stream.sources.base import Source
from stream.sources.microphone import MicrophoneSource, default_microphone
from stream.sources.mixing import MixedSource, Participant
from stream.sources.network import NetworkSource, has_protocol
from stream.sources.pulse import PulseSource
from stream.sources.reconnecting import ReconnectingSource

PROTOCOLS = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "srt", "udp", "rtp", "tcp", "unix")
URL = re.compile(r"([a-z][a-z0-9+.-]+)://.+", re.IGNORECASE | re.DOTALL)
NAMED = re.compile(r"([^:/=+?]+)=(.+)", re.DOTALL)


def participant(spec: str, channels: int, give_up: float, seconds: float | None = None) -> Participant:
    """The participant described by a text such as "Anna=mic:2+camera".

    channels: of a microphone; give_up: seconds after which a lost source counts as ended; seconds: maximum length of
    media. Raises MediaError.
    """
    match = NAMED.fullmatch(spec)
    name, rest = (match[1].strip(), match[2]) if match else (None, spec)
    sound, plus, camera = rest.partition("+camera")
    video = None
    if plus:
        device = camera.removeprefix(":") or "/dev/video0"
        video = ReconnectingSource(functools.partial(NetworkSource, device, "v4l2", {"framerate": "15"}), give_up)
    return Participant(ReconnectingSource(_sound(sound or "mic", channels), give_up, seconds), video, name)


def _sound(spec: str, channels: int) -> Callable[[], Source]:
    kind, _, name = spec.partition(":")
    if address := URL.fullmatch(spec):
        scheme = address[1].lower()
        usable = [protocol for protocol in PROTOCOLS if has_protocol(protocol)]
        if scheme not in usable:
            raise MediaError(
                f"{scheme}://: this FFmpeg (of PyAV) opens no such streams; it opens {', '.join(usable)} "
                "(HLS: the http address of its playlist)"
            )
        return functools.partial(NetworkSource, scheme + spec[len(scheme) :])
    if kind == "mic":
        if not name:
            return functools.partial(default_microphone, channels)
        return functools.partial(MicrophoneSource, int(name) if name.isdigit() else name, channels)
    if kind == "monitor":
        return functools.partial(PulseSource, name or "@DEFAULT_MONITOR@", channels)
    raise MediaError(
        f"no source {spec!r}: use mic, mic:DEVICE, monitor, monitor:NAME or a URL, optionally with +camera"
    )


def listen(
    specs: Sequence[str], channels: int, seconds: float | None, give_up: float
) -> tuple[ReconnectingSource | MixedSource, dict[int, str]]:
    """The source of a live session, and the names of its channels, where `specs` give any.

    channels: of each microphone; seconds: maximum length of media; give_up: seconds after which a lost source counts
    as ended. Raises MediaError.
    """
    participants = [participant(spec, channels, give_up, seconds) for spec in specs or ["mic"]]
    names, first_channel = {}, 0
    for person in participants:
        if person.name is not None:
            names[first_channel] = person.name
        first_channel += person.sound.channels
    if len(participants) == 1 and participants[0].camera is None:
        sound = participants[0].sound
        assert isinstance(sound, ReconnectingSource)
        return sound, names
    return MixedSource(participants, seconds), names
