"""Displays of a session: a live table for a terminal, plain lines or JSON lines for a pipe."""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stream.clock import Clock, MonotonicClock
from stream.events import (
    NOT_ANALYSED,
    Degraded,
    Emotion,
    Event,
    EventsMissed,
    Lag,
    SessionEnded,
    SessionStarted,
    SpeakerMerged,
    UtteranceFailed,
)
from workers.console.rows import Row, update, verdict
from workers.console.terminal import Terminal, harmless, print_json, printable, printable_event

BAR_WIDTH = 40  # characters of the bar of progress
LEGEND = (
    "a line: time, speaker, now/…/final (provisional, while speech goes on, with what came after), emotion "
    "(? = uncertain), its probability, sentiment, (laughs, cries, sighs), words"
)
SPEAKERS = {"channel": "one per channel", "turns": "as given", "cluster": "told apart by voice"}
DETECTORS = {"webrtc": "WebRTC", "silero": "Silero", "pyannote": "pyannote"}
SOUNDS = {"laughter": "laughs", "crying": "cries", "sigh": "sighs"}
MIN_RUN_S = 0.5  # seconds after which the pace is known


class JsonDisplay:
    """One event a line on stdout."""

    def event(self, event: Event) -> None:
        print_json(event.wire())

    def position(self, seconds: float) -> None:
        pass


class LineDisplay:
    """One label a line, for pipes and log files; the legend comes on stderr before the first label."""

    def __init__(self, with_session: bool = False) -> None:
        """with_session: lines begin with the session's id."""
        self._with_session, self._has_legend = with_session, False

    def event(self, event: Event) -> None:
        if isinstance(event, Emotion) and not self._has_legend:
            self._has_legend = True
            tell(LEGEND)
        if line := describe(event):
            print(f"{printable(event.session)} {line}" if self._with_session else line, flush=True)

    def position(self, seconds: float) -> None:
        pass


class TableDisplay:
    """A live table of the last utterances, with position and real-time factor under it.

    Where the end is known there are a bar, the share that is done, and the time that is left, too.
    """

    def __init__(self, console: Terminal, length: float | None = None, clock: Clock = MonotonicClock()) -> None:
        """length: seconds of media in all, None = unknown."""
        self._console, self._length, self._clock = console, length, clock
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._started = clock.now()
        self._first_block: float | None = None
        self._position = 0.0
        self._note = ""
        self.loading: Callable[[], str] = str
        """Says what is waited for before the first label, "" when nothing is."""
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> TableDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def event(self, event: Event) -> None:
        event = printable_event(event)
        update(self._rows, event, limit=200)
        if isinstance(event, SessionStarted):
            self._note = started_line(event)
        elif isinstance(event, Emotion) and event.trigger == "speech_ended":
            self._rows.move_to_end(event.utterance)
        elif isinstance(event, SessionEnded):
            self._position = event.duration
            if self._length and event.reason == "end of source":
                self._length = event.duration  # a file's own word of its length may be a little more
        elif isinstance(event, Lag | Degraded | SpeakerMerged | UtteranceFailed | EventsMissed):
            self._live.console.print(Text(describe(event), style="yellow"))
        self.refresh()

    def position(self, seconds: float) -> None:
        if self._first_block is None:
            self._first_block = self._clock.now()
        if seconds - self._position >= 1:
            self._position = seconds
            self.refresh()

    def refresh(self) -> None:
        """Show the table and the line under it as they are now."""
        self._live.update(Group(self.table(), *self._progress(), Text(self._status(), style="dim")), refresh=True)

    def table(self) -> Table:
        """The last utterances that fit the screen."""
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=True)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("speaker", no_wrap=True, max_width=14)
        table.add_column("words", ratio=1, overflow="ellipsis", no_wrap=True)
        table.add_column("emotion", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("sentiment", no_wrap=True)
        for row in list(self._rows.values())[-max(4, self._console.height - 5) :]:
            who = Text(row.latest.speaker)  # not str: rich would read "[b]" as markup
            words = Text.assemble((_sounds(row.label), "dim"), row.words) if row.label else row.words
            table.add_row(clock(row.latest.audio_start), who, words, *(verdict(row.label) if row.label else ()))
        return table

    def _progress(self) -> Iterator[Table]:
        """Bar, per cent and time left, if the end is known."""
        if not self._length:
            return
        done = min(1.0, self._position / self._length)
        left = f"{clock(self._run() * (1 - done) / done)} left" if self._has_pace() and done < 1 else ""
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(1.0, done, width=BAR_WIDTH), Text(f"{100 * done:.0f} %", "bold"), Text(left, "dim"))
        yield row

    def _run(self) -> float:
        """Seconds since the first block."""
        return self._clock.now() - (self._started if self._first_block is None else self._first_block)

    def _has_pace(self) -> bool:
        """True once position and time say how fast it goes."""
        return bool(self._position) and self._run() > MIN_RUN_S

    def _status(self) -> str:
        if loading := self.loading():
            return loading
        factor = f"{self._position / self._run():.1f} x real time" if self._has_pace() else "starting"
        return f"{clock(self._position)}  {factor}   ? = uncertain, italic = provisional   {self._note}"


@contextmanager
def display_for(
    as_json: bool, console: Terminal, length: float | None = None
) -> Iterator[JsonDisplay | LineDisplay | TableDisplay]:
    """The display that fits stdout: JSON where it was asked for, a table on a terminal, else lines.

    length: seconds of media in all, None = unknown.
    """
    if as_json:
        yield JsonDisplay()
    elif sys.stdout.isatty():
        with TableDisplay(console, length) as table:
            yield table
    else:
        yield LineDisplay()


def clock(seconds: float) -> str:
    """Media time as m:ss.s."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"


def started_line(event: SessionStarted) -> str:
    """The encoders of a session, in short; `SessionStarted.encoders` has it in full."""
    used = {name: encoder or "" for name, encoder in event.encoders.items()}
    parts = [f"words: {_recognizer(used['asr'])}" if used.get("asr") else "no words"]
    if used.get("asr") and used.get("text"):
        parts.append(f"text: {_names(used['text'].partition(',')[0])}")
    parts.append(f"voice: {_names(used['audio'])}" if used.get("audio") else "no voice")
    if used.get("visual"):  # most sources have no pictures, which nobody misses
        parts.append(f"faces: {_names(used['visual'])}")
    enrolled = re.search(r"enrolled: (\d+)", used.get("speaker", ""))
    parts.append(f"speakers: {SPEAKERS[event.speakers]}{f' ({enrolled[1]} known)' if enrolled else ''}")
    if vad := used.get("vad"):
        parts.append(f"VAD: {DETECTORS.get(vad, vad)}")
    return f"session {event.session}: {' · '.join(parts)}"


def _recognizer(asr: str) -> str:
    """ "Whisper base (language detected)" of "faster-whisper base, language detected"."""
    name, _, language = asr.partition(", ")
    if not name.startswith("faster-whisper "):  # the name of a transcript may have commas
        return asr
    told = language.partition(",")[0]
    return name.removeprefix("faster-").capitalize() + (f" ({told})" if told else "")


def _names(encoder: str) -> str:
    """ "Praat, WeSpeaker" of "prosody (Praat); expert: voice (WeSpeaker)"."""
    shown = []
    for part in encoder.split("; "):
        role, _, name = part.rpartition(": ")
        inside = re.fullmatch(r"\w+ \(([^()]+)\)", name)
        name = inside[1] if inside else name
        shown.append(f"{name} ({role})" if role == "shown only" else name)
    return ", ".join(shown)


def describe(event: Event) -> str:
    """One line for an event, "" for one that needs none."""
    event = printable_event(event)
    match event:
        case SessionStarted():
            return started_line(event)
        case Emotion():
            sure = "?" if event.uncertain else ""
            kind = "final" if event.final else "…" if event.trigger == "interval" else "now"
            return (
                f"{clock(event.audio_start):>7} {event.speaker:<12} {kind:<5} "
                f"{event.emotion + sure:<11} {event.probabilities[event.emotion]:.2f} {event.sentiment:<8} "
                f"{_sounds(event)}{event.text or ''}{_unread(event)}"
            )
        case UtteranceFailed():
            return f"{clock(event.audio_start):>7} {event.speaker or '':<12} no label: {event.reason}"
        case SpeakerMerged():
            return f"{'':>7} {event.speaker} is {event.into}"
        case Lag():
            return f"{clock(event.audio_time):>7} {event.seconds:.1f} s behind the source"
        case Degraded():
            return f"{clock(event.audio_time):>7} {event.reason}"
        case EventsMissed():
            number = "some events, perhaps," if event.count is None else f"{event.count} events"
            return f"{'':>7} {number} were removed from Redis before they were read"
        case _:
            return ""


def _sounds(label: Emotion) -> str:
    """The speaker's sounds besides words, in parentheses before these; "" if there are none."""
    sounds = label.voice.sounds if label.voice is not None else []
    names = dict.fromkeys(SOUNDS[each.sound] for each in sounds)
    return f"({', '.join(names)}) " if names else ""


def _unread(label: Emotion) -> str:
    """The reasons for which the label does not rest on a modality that is there."""
    told = label.modalities.reasons.items()
    reasons = [f"no {modality}: {reason}" for modality, reason in told if reason != NOT_ANALYSED]
    return f"  ({'; '.join(reasons)})" if reasons else ""


def summary(ended: SessionEnded, seconds: float) -> str:
    """The last line of a command; where nothing was heard, why."""
    if ended.reason.startswith("error: ") and not ended.duration and not ended.utterances:
        return printable(ended.reason)
    extra = "".join(f", {name.replace('_', ' ')}: {count}" for name, count in sorted(ended.counts.items()))
    factor = f", {ended.duration / seconds:.1f} x real time" if seconds > 0 else ""
    return printable(
        f"{ended.reason}: {ended.utterances} utterances ({ended.failed} without label) "
        f"in {clock(ended.duration)} of media{factor}{extra}"
    )


def tell(message: str) -> None:
    """A line for the person at the terminal; stdout stays for results."""
    print(harmless(message), file=sys.stderr, flush=True)
