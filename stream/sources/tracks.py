"""The audio track of a recording that is analysed, where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import av
import numpy as np
from av.stream import Disposition

from stream.block import RATE
from stream.errors import MediaError
from stream.sources.decoding import AudioDecoder, limit_audio, packets

OpenContainer = Callable[[], av.container.InputContainer]
# Tracks that somebody made for the recording; those of a conversation are taken first.
ADDED = Disposition.comment | Disposition.visual_impaired | Disposition.karaoke | Disposition.descriptions
SILENCE = 1e-3  # root mean square of 0.1 s, full scale 1: an amplifier without a microphone stays below it
PLACES, PLACE_S = 60, 1.0  # pieces of a long recording that are listened to for this, and their length in seconds
MAX_COMPARED = 8  # tracks that are listened to where the preferred one is silent
PLACE_PACKETS = 500  # of all tracks, read for a piece: in one of them sound may be rare


def choose_track(open_container: OpenContainer, name: str, wanted: int | None) -> tuple[int, str | None]:
    """Place of the audio track to analyse among those of a recording, and a message if there was a choice.

    The default track, else the first; one that is silent yields to the loudest. wanted: its number, from 1, where the
    user has chosen. Raises MediaError if there is none, or none that can be analysed.
    """
    with open_container() as container:
        tracks = container.streams.audio
        if wanted is not None and tracks:
            if not 1 <= wanted <= len(tracks):
                raise MediaError(f"{name}: has no audio track {wanted}; it has {len(tracks)}")
            limit_audio(tracks[wanted - 1], name)
            return wanted - 1, None
        (chosen, *others), reason = usable_tracks(container, name)
        count = len(tracks)
    if others and not any(level > SILENCE for level in _levels(open_container, name, chosen)):
        loudness = {place: max(_levels(open_container, name, place), default=0.0) for place in others[:MAX_COMPARED]}
        loudest = max(loudness, key=lambda place: loudness[place])
        if loudness[loudest] > SILENCE:
            chosen, reason = loudest, f"{reason}, number {chosen + 1}, is silent"
    if count == 1:
        return chosen, None
    return chosen, f"{count} audio tracks: number {chosen + 1} is analysed ({reason}); --track chooses another"


def usable_tracks(container: av.container.InputContainer, name: str) -> tuple[list[int], str]:
    """Places of the audio tracks that can be analysed, the one to be preferred first, and why it is.

    The limits are applied to them. Raises MediaError if there are none.
    """
    tracks = container.streams.audio
    if not tracks:
        raise MediaError(f"{name}: has no audio track")
    usable, problems = [], []
    for place, track in enumerate(tracks):
        try:
            limit_audio(track, name)
            usable.append(place)
        except MediaError as error:
            problems.append(error)
    if not usable:
        raise problems[0]
    added, default = ([bool(track.disposition & mark) for track in tracks] for mark in (ADDED, Disposition.default))
    usable.sort(key=lambda place: (added[place], not default[place]))
    first = usable[0]
    return usable, "the default" if default[first] else "the first that can be analysed" if first else "the first"


def _levels(open_container: OpenContainer, name: str, place: int) -> Iterator[float]:
    """Level of the loudest 0.1 s, full scale 1, of pieces all over a track."""
    with open_container() as container:
        limit_audio(container.streams.audio[place], name)
        begin, duration = container.start_time or 0, container.duration or 0
        if duration < 2 * PLACES * PLACE_S * av.time_base:
            yield _loudest(container, place, 2 * PLACES * PLACE_S, None)
            return
        for n in range(PLACES):
            try:
                container.seek(begin + n * duration // PLACES)
            except (av.error.FFmpegError, OSError):
                return
            yield _loudest(container, place, PLACE_S, PLACE_PACKETS)


def _loudest(container: av.container.InputContainer, place: int, seconds: float, limit: int | None) -> float:
    """Level of the loudest 0.1 s of a track in the next `seconds`, for which at most `limit` packets are read."""
    track, sound, size, loudest = container.streams.audio[place], AudioDecoder(), 0, 0.0
    for packet in islice(packets(container, *container.streams.audio, *container.streams.video), limit):
        if packet.stream.index != track.index:
            continue
        for samples in sound.read(packet):
            size += samples.shape[1]
            for first in range(0, samples.shape[1], RATE // 10):
                loudest = max(loudest, float(np.sqrt((samples[:, first : first + RATE // 10] ** 2).mean())))
        if size > seconds * RATE:
            break
    return loudest
