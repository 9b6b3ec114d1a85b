"""Export of a session's events to files for other programs.

Every format is a function from events to bytes, in a module that is imported when the format is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from stream.events import Event
from stream.exports.labelled import ExportError, labelled, opening, removed

__all__ = ["FORMATS", "ExportError", "Format", "export", "removed"]


@dataclass(frozen=True)
class Format:
    """A file format. `suffix` begins with a dot; `write` raises ExportError."""

    name: str
    suffix: str
    media_type: str
    title: str
    write: Callable[[Sequence[Event]], bytes]


def _writer(module: str) -> Callable[[str], Callable[[Sequence[Event]], bytes]]:
    """Lazy access to the functions of a module, which are called only with events of one session with utterances."""

    def named(function: str) -> Callable[[Sequence[Event]], bytes]:
        def write(events: Sequence[Event]) -> bytes:
            opening(events)
            labelled(events)
            written: bytes = getattr(import_module(f"stream.exports.{module}"), function)(events)
            return written

        return write

    return named


_captions, _report, _tables, _tiers = (_writer(module) for module in ("captions", "report", "tables", "tiers"))


def _jsonl(events: Sequence[Event]) -> bytes:
    """The events as published, one JSON per line."""
    if not events:
        raise ExportError("no events: nothing to export")
    return "".join(event.wire() + "\n" for event in events).encode()


FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("jsonl", ".jsonl", "application/jsonl", "Events, one JSON a line", _jsonl),
        Format("csv", ".csv", "text/csv; charset=utf-8", "Table, a row an utterance (CSV)", _tables("csv")),
        Format(
            "parquet",
            ".parquet",
            "application/vnd.apache.parquet",
            "Table, a row an utterance (Parquet)",
            _tables("parquet"),
        ),
        Format("vtt", ".vtt", "text/vtt; charset=utf-8", "Subtitles (WebVTT)", _captions("vtt")),
        Format("srt", ".srt", "application/x-subrip; charset=utf-8", "Subtitles (SubRip)", _captions("srt")),
        Format("rttm", ".rttm", "text/plain; charset=utf-8", "Who spoke when (RTTM)", _writer("rttm")("rttm")),
        Format("elan", ".eaf", "application/xml", "Tiers of words and emotions (ELAN)", _tiers("elan")),
        Format(
            "textgrid",
            ".TextGrid",
            "text/plain; charset=utf-8",
            "Tiers of words and emotions (Praat)",
            _tiers("textgrid"),
        ),
        Format(
            "emotionml",
            ".emotionml",
            "application/emotionml+xml",
            "Emotions (W3C EmotionML 1.0)",
            _writer("emotionml")("emotionml"),
        ),
        Format("html", ".html", "text/html; charset=utf-8", "Report with plots (HTML)", _report("report")),
    )
}


def export(events: Sequence[Event], name: str) -> bytes:
    """Write a session in the format `name`; returns the content of the file.

    Where events were removed before they were read (`events.missed`), the file says so in jsonl, vtt, rttm, emotionml,
    elan, parquet and html; if session.started may be among them, all formats but emotionml and html do without it.
    Raises ExportError for an unknown format, and for events without session.started or utterances.
    """
    if name not in FORMATS:
        raise ExportError(f"unknown format {name!r}: one of {', '.join(FORMATS)}")
    return FORMATS[name].write(events)
