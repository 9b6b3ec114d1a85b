"""`undertone watch` on a terminal: sessions at the left, their labels at the right."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import ClassVar

from redis.exceptions import RedisError
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from stream.bus.connection import public, reason
from stream.bus.subscriber import follow
from stream.events import (
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
from workers.console.display import clock, describe, started_line, summary
from workers.console.rows import BAR, Row, update, verdict
from workers.console.terminal import printable, printable_event

MAX_ROWS = 500  # labels a session
REDRAW_S = 0.15  # seconds between looks for something new to draw
COLUMNS = {"time": 8, "speaker": 14, "words": 0, "emotion": 14, "probability": BAR + 5, "sentiment": 9, "": 11}
MIN_WORDS_WIDTH = 20  # characters for words


@dataclass
class Conversation:
    """Labels, state and words so far of a session."""

    rows: OrderedDict[int, Row] = field(default_factory=OrderedDict)
    """By utterance."""
    note: str = ""
    """The last thing worth a line."""
    ended: bool = False

    def event(self, event: Event) -> None:
        event = printable_event(event)
        update(self.rows, event, MAX_ROWS)
        match event:
            case SessionStarted():
                self.note = started_line(event)
            case SpeakerMerged():
                for number, row in self.rows.items():
                    if row.label is not None and row.label.speaker == event.speaker:
                        label = row.label.model_copy(update={"speaker": event.into})
                        self.rows[number] = replace(row, label=label)
                self.note = describe(event).strip()
            case Lag() | Degraded() | UtteranceFailed() | EventsMissed():
                self.note = describe(event).strip()
            case SessionEnded():
                self.ended = True
                self.note = summary(event, 0)


def matches(row: Row, wanted: str) -> bool:
    """True where words, speaker or emotion contain the search text, in upper or lower case."""
    text = f"{row.latest.speaker}\n{row.latest.text or ''}\n{row.label.emotion if row.label else ''}"
    return wanted.casefold() in text.casefold()


def _state(label: Emotion | None) -> str:
    if label is not None and label.final:
        return "final"
    return "goes on" if label is None or label.trigger == "interval" else "provisional"


class WatchApp(App[str]):
    """Shows the given sessions, or all. Returns why Redis cannot be read, or None when the user left."""

    TITLE = "undertone"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = """
    OptionList { width: 28; height: 1fr; border: none; border-right: solid $primary; }
    DataTable { width: 1fr; height: 1fr; }
    Input { display: none; }
    #status { height: 1; padding: 0 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "choose(-1)", "previous"),
        ("down", "choose(1)", "next"),
        ("slash", "search", "search"),
        ("space", "pause", "pause"),
        ("f", "finals", "finals only"),
        Binding("pageup", "scroll(-1)", show=False),
        Binding("pagedown", "scroll(1)", show=False),
        Binding("escape", "forget", show=False),
        ("q", "quit", "quit"),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(self, url: str, sessions: Sequence[str], prefix: str) -> None:
        super().__init__()
        self._url = url
        self.conversations: dict[str, Conversation] = {session: Conversation() for session in sessions}
        self.chosen: str | None = sessions[0] if sessions else None
        self.waiting = 0
        """Events that came since the pause."""
        self._source: AsyncGenerator[Event] = follow(url, prefix, sessions or None)
        self._paused: dict[str, list[Row]] | None = None  # what was there to see when the user paused
        self._by_hand = bool(sessions)  # the choice is the user's; else it is the newest session
        self._finals = False
        self._wanted = ""
        self._shown: dict[str, Row] = {}
        self._listed: list[tuple[str, bool]] = []
        self._dirty = True
        self._words_width = 0  # characters for words the table was laid out for

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield OptionList()
            yield DataTable(cursor_type="none", zebra_stripes=True)
        yield Input(placeholder="words, speaker or emotion; Esc ends the search")
        yield Static(id="status")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(DataTable).anchor()
        # The keys are the app's: arrows choose a session wherever one is.
        self.query_one(OptionList).can_focus = False
        self.query_one(DataTable).can_focus = False
        self.set_interval(REDRAW_S, self.draw)
        self.run_worker(self._receive())

    async def _receive(self) -> None:
        received = 0
        try:
            async with aclosing(self._source):  # its connection ends with the screen
                async for event in self._source:
                    self.conversations.setdefault(printable(event.session), Conversation()).event(event)
                    self.waiting += self._paused is not None
                    self._dirty = True
                    received += 1
                    if received % 100 == 0:
                        await asyncio.sleep(0)  # a long history shall not freeze the keys
        except RedisError as error:
            self.exit(f"Redis at {public(self._url)}: {reason(error)}")

    def draw(self) -> None:
        """Bring the screen up to date."""
        if (width := self._width()) != self._words_width:
            self._lay_out(width)
        if not self._dirty:
            return
        self._dirty = False
        self._draw_sessions()
        self._draw_labels()
        self._draw_status()

    def _draw_sessions(self) -> None:
        newest_first = list(reversed(self.conversations.items()))
        listed = sorted(((session, known.ended) for session, known in newest_first), key=lambda each: each[1])
        if listed and not self._by_hand:
            self.chosen = listed[0][0]
        options = self.query_one(OptionList)
        if listed != self._listed:
            self._listed = listed
            marks = {False: ("● ", "green"), True: ("○ ", "dim")}
            options.clear_options()
            options.add_options([Option(Text.assemble(marks[ended], session)) for session, ended in listed])
        names = [session for session, _ in listed]
        options.highlighted = names.index(self.chosen) if self.chosen in names else None

    def _draw_labels(self) -> None:
        table = self.query_one(DataTable)
        rows = {str(row.latest.utterance): row for row in self._rows()}
        if list(rows)[: len(self._shown)] != list(self._shown):
            if not table.is_vertical_scroll_end:
                self.call_after_refresh(table.scroll_to, y=table.scroll_offset.y, animate=False)
            table.clear()
            self._shown = {}
        for key, row in rows.items():
            if key not in self._shown:
                table.add_row(*self._cells(row), key=key)
            elif self._shown[key] is not row:
                for column, cell in zip(COLUMNS, self._cells(row), strict=True):
                    table.update_cell(key, column, cell)
        self._shown = rows

    def _rows(self) -> list[Row]:
        """The rows of the chosen session that the filters let through."""
        known = self.conversations.get(self.chosen or "", Conversation())
        rows = list(known.rows.values()) if self._paused is None else self._paused.get(self.chosen or "", [])
        if self._finals:
            rows = [row for row in rows if row.label is not None and row.label.final]
        return [row for row in rows if matches(row, self._wanted)]

    def _cells(self, row: Row) -> tuple[Text, ...]:
        words = row.words
        words.truncate(self._words_width, overflow="ellipsis")
        who = Text(row.latest.speaker)
        label = row.label
        judged = verdict(label) if label is not None else (Text(), Text(), Text())
        return (Text(clock(row.latest.audio_start), justify="right"), who, words, *judged, Text(_state(label), "dim"))

    def _width(self) -> int:
        """Characters for words, so that the rest of a row fits."""
        taken = sum(COLUMNS.values()) + 2 * len(COLUMNS) + 2
        return max(MIN_WORDS_WIDTH, self.query_one(DataTable).size.width - taken)

    def _lay_out(self, words_width: int) -> None:
        table = self.query_one(DataTable)
        table.clear(columns=True)
        self._shown = {}
        table.anchor()
        for name, width in COLUMNS.items():
            table.add_column(name, key=name, width=width or words_width)
        self._words_width = words_width
        self._dirty = True

    def _draw_status(self) -> None:
        known = self.conversations.get(self.chosen or "")
        parts = [
            f"paused, {self.waiting} wait" if self._paused is not None else "",
            "finals only" if self._finals else "",
            f"search: {self._wanted}" if self._wanted else "",
            known.note if known else "no session yet",
        ]
        self.query_one("#status", Static).update(Text("   ".join(filter(None, parts)), no_wrap=True))

    def action_choose(self, step: int) -> None:
        names = [session for session, _ in self._listed]
        if names:
            at = names.index(self.chosen) + step if self.chosen in names else 0
            self.chosen = names[min(max(at, 0), len(names) - 1)]
            self._by_hand, self._shown = True, {}
            table = self.query_one(DataTable)
            table.clear()
            table.anchor()
            self._redraw()

    def action_pause(self) -> None:
        self.waiting = 0
        if self._paused is None:
            self._paused = {session: list(known.rows.values()) for session, known in self.conversations.items()}
        else:
            self._paused = None
        self._redraw()

    def action_finals(self) -> None:
        self._finals = not self._finals
        self._redraw()

    def action_search(self) -> None:
        search = self.query_one(Input)
        search.display = True
        search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._wanted = event.value
        self._redraw()

    def on_input_submitted(self) -> None:
        """The search stays, the keys are the app's again."""
        self.query_one(Input).display = False
        self.screen.set_focus(None)

    def action_forget(self) -> None:
        self.query_one(Input).value = ""
        self.on_input_submitted()

    def action_scroll(self, pages: int) -> None:
        table = self.query_one(DataTable)
        table.scroll_relative(y=pages * table.size.height, animate=False)

    def action_interrupt(self) -> None:
        self.exit(return_code=130)

    def _redraw(self) -> None:
        self._dirty = True
        self.draw()
