"""Subtitles (WebVTT and SubRip): one cue per utterance, with its emotion in brackets before the words."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape

from webvtt import Caption, WebVTT

from stream.events import Event
from stream.exports.labelled import Labelled, labelled, removed
from stream.exports.text import plain, tag

# SubRip has no escaping, and players interpret different <tags>, {overrides} and \N, so none of them is passed on.
_SUBRIP = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "/"})


def vtt(events: Sequence[Event]) -> bytes:
    """WebVTT, UTF-8; the speaker is the voice of the cue."""
    cues = [
        Caption(start, end, f"<v {escape(speaker, quote=False)}>{escape(line, quote=False)}")
        for start, end, speaker, line in _cues(events)
    ]
    return _written(cues, "vtt", removed(events))


def srt(events: Sequence[Event]) -> bytes:
    """SubRip, UTF-8; "speaker: words". `<`, `>`, braces and backslashes are replaced by similar characters."""
    cues = [Caption(start, end, f"{speaker}: {line}".translate(_SUBRIP)) for start, end, speaker, line in _cues(events)]
    return _written(cues, "srt")


def _cues(events: Sequence[Event]) -> Iterator[tuple[str, str, str, str]]:
    """Start, end, speaker, and words with the emotion, of each utterance."""
    for utterance in labelled(events):
        speaker = plain(utterance.speaker) or "unknown"
        yield _timestamp(utterance.start), _timestamp(utterance.end), speaker, _line(utterance)


def _line(utterance: Labelled) -> str:
    emotion = tag(utterance.label) if utterance.label else "no label"
    return f"[{emotion}] {plain(utterance.text or '')}".rstrip()


def _timestamp(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _written(cues: list[Caption], format: str, comment: str | None = None) -> bytes:
    file = io.StringIO()
    WebVTT(captions=cues, header_comments=[comment] if comment else []).write(file, format=format)
    return (file.getvalue().rstrip("\n") + "\n").encode()
