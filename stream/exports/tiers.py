"""Annotation tiers (ELAN's EAF and Praat's TextGrid) with the words and emotions of each speaker.

The annotations of a tier must not overlap, so an utterance that begins before the speaker's last one ended goes to a
second pair of tiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stream.events import Event
from stream.exports.labelled import Labelled, duration, labelled, opening, removed
from stream.exports.text import distinct, plain, tag


@dataclass(frozen=True)
class _Pair:
    """A tier of words and a tier of emotions, with unique names."""

    words: str
    emotions: str
    speaker: str
    utterances: list[Labelled]


def elan(events: Sequence[Event]) -> bytes:
    """EAF 2.8, UTF-8. The tier of emotions depends on the tier of words, so an emotion has its utterance's times."""
    from pympi.Elan import Eaf, to_string  # type: ignore[import-untyped]

    file = Eaf(author="Undertone")
    if begun := opening(events):
        file.adocument["DATE"] = begun.time
    file.remove_tier("default")
    file.remove_linguistic_type("default-lt")
    file.add_linguistic_type("utterance")
    file.add_linguistic_type("emotion", "Symbolic_Association", timealignable=False)
    for pair in _pairs(labelled(events)):
        participant = plain(pair.speaker)
        file.add_tier(pair.words, "utterance", part=participant)
        file.add_tier(pair.emotions, "emotion", parent=pair.words, part=participant)
        for utterance in pair.utterances:
            start, end = round(utterance.start * 1000), round(utterance.end * 1000)
            file.add_annotation(pair.words, start, end, plain(utterance.text or ""))
            if utterance.label is not None:
                file.add_ref_annotation(pair.emotions, pair.words, (start + end) / 2, tag(utterance.label))
    file.properties = [("lastUsedAnnotationId", file.maxaid)]
    if gap := removed(events):
        file.properties.append(("missing", gap))
    written: str = to_string(file)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written}'.encode()


def textgrid(events: Sequence[Event]) -> bytes:
    """TextGrid in the long format, UTF-8; interval tiers from 0 to the session's end, with empty texts in pauses."""
    end = duration(events)
    tiers = []
    for pair in _pairs(labelled(events)):
        for name, texts in (
            (pair.words, [plain(utterance.text or "") for utterance in pair.utterances]),
            (pair.emotions, [tag(utterance.label) if utterance.label else "" for utterance in pair.utterances]),
        ):
            spans = [(u.start, u.end, text) for u, text in zip(pair.utterances, texts, strict=True)]
            tiers.append((name, list(_filled(spans, end))))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.3f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end:.3f}", f"        intervals: size = {len(intervals)}"]
        for position, (since, until, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{position}]:", f"            xmin = {since:.3f}"]
            lines += [f"            xmax = {until:.3f}", f"            text = {_quoted(text)}"]
    return ("\n".join(lines) + "\n").encode()


def _pairs(utterances: Sequence[Labelled]) -> list[_Pair]:
    """Distribute utterances to pairs of tiers, so that none overlap."""
    lanes: list[tuple[str, list[Labelled]]] = []
    for utterance in utterances:
        for speaker, lane in lanes:
            if speaker == utterance.speaker and lane[-1].end <= utterance.start:
                lane.append(utterance)
                break
        else:
            lanes.append((utterance.speaker, [utterance]))
    shown = [plain(speaker) or "unknown" for speaker, _ in lanes]
    names = distinct(shown + [f"{name} emotion" for name in shown])
    return [
        _Pair(words, emotions, speaker, lane)
        for words, emotions, (speaker, lane) in zip(names, names[len(lanes) :], lanes, strict=False)
    ]


def _filled(spans: Sequence[tuple[float, float, str]], end: float) -> Iterator[tuple[float, float, str]]:
    """The spans with empty ones between them, because Praat's tiers have no gaps."""
    done = 0.0
    for since, until, text in spans:
        if since > done:
            yield done, since, ""
        yield since, until, text
        done = until
    if end > done:
        yield done, end, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
