"""The sound of a recording that is analysed: which of its audio tracks, and what its two channels are: a speaker each,
or one scene that two microphones hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from stream.block import RATE, Samples
from stream.errors import MediaError
from stream.sources.decoding import AudioDecoder, limit_audio, packets
from stream.speech.crosstalk import WINDOW_SAMPLES, Crosstalk
from stream.speech.vad import HighPass, decibels

APART_DB = 6.0
"""A sound that is on both channels belongs to the one that is louder by this much; else to both."""
ABOVE_FLOOR_DB = 10.0
"""Level above a channel's background from which it says something."""
QUIET_DBFS = -60.0
SHORTEST_ALONE_S = 1.0
"""Both channels must be heard alone for so long, to be a speaker each."""
ENOUGH_S = 60.0
"""Seconds of sound of one kind after which no more of the file is looked at, if there is next to none of the other."""
CHECK_EVERY = 250  # windows (30 s) between two looks at the evidence
OpenContainer = Callable[[], av.container.InputContainer]
# Tracks that somebody made for the recording; those of a conversation are taken first.
ADDED = Disposition.comment | Disposition.visual_impaired | Disposition.karaoke | Disposition.descriptions
SILENCE = 1e-3  # root mean square of 0.1 s, full scale 1: an amplifier without a microphone stays below it
PLACES, PLACE_S = 60, 1.0  # pieces of a long recording that are listened to for this, and their length in seconds
MAX_COMPARED = 8  # tracks that are listened to where the preferred one is silent
PLACE_PACKETS = 500  # of all tracks, read for a piece: in one of them sound may be rare
DEFAULT_TITLES = {"soundhandler", "core media audio", "sound media handler"}  # that programs write into MP4
MAX_NAME_CHARACTERS = 64  # of a track


@dataclass(frozen=True)
class Channels:
    """The content of two channels."""

    apart: bool
    """True if each has a speaker of its own."""
    weights: tuple[float, float] | None = None
    """Factors with which the two are added up to one; None: any downmix will do."""


class _Evidence:
    """Per window of 120 ms: both levels, and how one channel repeats the other."""

    def __init__(self) -> None:
        self._levels: list[tuple[float, float]] = []
        self._balance: list[float] = []  # dB by which the first is louder where one repeats the other; else NaN
        self._plain: list[float] = []  # correlation where one repeats the other without delay; else NaN

    def add(self, window: Samples, crosstalk: Crosstalk) -> None:
        """window: float32 [2, n]; crosstalk: has just processed it."""
        self._levels.append((decibels(window[0]), decibels(window[1])))
        balance = plain = np.nan
        for channel, repetition in enumerate(crosstalk.repetitions):
            if repetition is not None:
                balance = repetition.lead_db if channel == 1 else -repetition.lead_db
                plain = repetition.correlation if repetition.delay == 0 else np.nan
        self._balance.append(balance)
        self._plain.append(plain)

    def seconds(self) -> tuple[float, float, float]:
        """Seconds for which only the first channel is heard, only the second one, and both with the same sound."""
        loud = self._loud()
        balance = np.array(self._balance)
        same = ~np.isnan(balance)
        first = loud[:, 0] & np.where(same, balance >= APART_DB, ~loud[:, 1])
        second = loud[:, 1] & np.where(same, balance <= -APART_DB, ~loud[:, 0])
        both = loud.all(1) & same & (np.abs(balance) < APART_DB)
        one, other, common = (float(part.sum()) * WINDOW_SAMPLES / RATE for part in (first, second, both))
        return one, other, common

    def verdict(self) -> Channels:
        first, second, both = self.seconds()
        if min(first, second) >= SHORTEST_ALONE_S and first + second >= both:
            return Channels(apart=True)
        loud, levels = self._loud(), np.array(self._levels)
        if not loud.all(0).any() and loud.any(0).sum() < 2:  # the other has nothing but its background
            return Channels(False, (1.0, 0.0) if loud[:, 0].any() else (0.0, 1.0)) if loud.any() else Channels(False)
        repeated = ~np.isnan(np.array(self._balance)) & loud.all(1)
        if not repeated.any() or both < SHORTEST_ALONE_S:
            return Channels(False)
        plain = np.array(self._plain)[repeated]
        if np.isnan(plain).mean() > 0.2:  # a delay: their sum would be a comb filter
            margin = [float(np.median(levels[repeated, c])) - self._floors()[c] for c in (0, 1)]
            return Channels(False, (1.0, 0.0) if margin[0] >= margin[1] else (0.0, 1.0))
        return Channels(False) if np.nanmedian(plain) > 0 else Channels(False, (0.5, -0.5))

    def is_enough(self) -> bool:
        """True if the rest of the file can hardly change the verdict."""
        first, second, both = self.seconds()
        if min(first, second) >= ENOUGH_S / 4 and first + second >= 4 * both:
            return True
        return both >= ENOUGH_S and first + second < both / 10

    def _floors(self) -> NDArray[np.float64]:
        floors: NDArray[np.float64] = np.percentile(np.array(self._levels), 10, axis=0)
        return np.maximum(floors, QUIET_DBFS - ABOVE_FLOOR_DB)

    def _loud(self) -> NDArray[np.bool_]:
        """bool [windows, 2]"""
        return np.array(self._levels) > np.maximum(self._floors() + ABOVE_FLOOR_DB, QUIET_DBFS)


def judge_channels(pieces: Iterable[Samples]) -> Channels:
    """Judge a file by all of its sound, or by as much of it as leaves no doubt.

    pieces: the sound in order, float32 [2, n] at 16 kHz. Two channels have a speaker each if each is heard alone, or
    much louder than the other with the same sound, for a second or more, and more often than both alike. One that has
    nothing but noise is not a speaker's; opposite phase is turned; of two that hear the same at different times the
    clearer one is taken.
    """
    evidence, crosstalk, rest = _Evidence(), Crosstalk(2), np.zeros((2, 0), np.float32)
    high_pass, count = HighPass(), 0
    for piece in pieces:
        rest = np.concatenate([rest, piece], 1)
        while rest.shape[1] >= WINDOW_SAMPLES:
            window, rest = rest[:, :WINDOW_SAMPLES], rest[:, WINDOW_SAMPLES:]
            window = high_pass(window)
            crosstalk.push(window)
            evidence.add(window, crosstalk)
            count += 1
            if count % CHECK_EVERY == 0 and evidence.is_enough():
                return evidence.verdict()
    return evidence.verdict() if count else Channels(False)


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


def track_name(track: av.AudioStream) -> str | None:
    """Name of a track as its file gives it: the title, else the language (ISO 639); None if it has neither."""
    tags = {key.lower(): " ".join(value.split()) for key, value in track.metadata.items()}
    title = tags.get("title") or tags.get("name") or tags.get("handler_name", "")
    language = tags.get("language", "")
    if not title or title.lower() in DEFAULT_TITLES:
        title = "" if language.lower() in ("und", "zxx", "mul") else language
    return "".join(c for c in title if c.isprintable())[:MAX_NAME_CHARACTERS] or None
