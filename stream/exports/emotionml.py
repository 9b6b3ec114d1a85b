"""EmotionML 1.0, the W3C Recommendation of 22 May 2014.

The document defines its own vocabulary, because the label set depends on the checkpoint. An utterance is one <emotion>
with a <category> for every label; data without an element in the Recommendation (session, speaker, words, media times)
is in <info>, in the namespace `urn:undertone`. Utterances without a label are omitted, because an <emotion> must have a
description.

A category's `value` and `confidence` are both the probability of the label, because the network returns one number and
the Recommendation requires a value if there are several categories. Arousal, where the voice was analysed, is a
<dimension> on the Recommendation's scale: 0 = calm, 1 = excited.

W3C's schema is not part of this repository: the tests check the Recommendation's rules with a schema of their own, and
documents were validated once by hand against a copy of W3C's schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from stream.events import MAX_SECONDS, Emotion, Event, SessionStarted
from stream.exports.labelled import ExportError, Labelled, emotions, labelled, removed, started
from stream.exports.text import distinct, plain

NAMESPACE = "http://www.w3.org/2009/10/emotionml"
OURS = "urn:undertone"
EXPRESSED_THROUGH = {"text": "text", "audio": "voice", "visual": "face"}
"""The Recommendation's term for each modality."""

# The name of an item is an NMTOKEN, so characters other than XML's NameChar are replaced.
_NAME = re.compile(
    "[^-.0-9:A-Z_a-z\xb7\xc0-\xd6\xd8-\xf6\xf8-\u037d\u037f-\u1fff\u200c-\u200d\u203f-\u2040\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff]+"
)


def emotionml(events: Sequence[Event]) -> bytes:
    """EmotionML, UTF-8. `start` and `end` are milliseconds since 1970: wall-clock start plus media time."""
    session = started(events)
    began = _began(session)
    labels = emotions(events)
    items = dict(zip(labels, distinct([_NAME.sub("-", plain(label)) for label in labels]), strict=True))
    ElementTree.register_namespace("emotion", NAMESPACE)
    ElementTree.register_namespace("undertone", OURS)
    root = ElementTree.Element(f"{{{NAMESPACE}}}emotionml", {"version": "1.0", "category-set": "#emotions"})
    info = _under(root, "info")
    for name, value in (("session", session.session), ("checkpoint", session.checkpoint), ("consent", session.consent)):
        _own(info, name, value)
    for source in session.sources:
        _own(info, "source", source)
    _own(info, "missing", removed(events))
    _own(info, "note", "Perceived expression as a model labels it, not what anybody feels.")
    vocabulary = _under(root, "vocabulary", type="category", id="emotions")
    for item in items.values():
        _under(vocabulary, "item", name=item)
    utterances = labelled(events)
    if any(_arousal(utterance.label) is not None for utterance in utterances):
        root.set("dimension-set", "#dimensions")
        _under(_under(root, "vocabulary", type="dimension", id="dimensions"), "item", name="arousal")
    for utterance in utterances:
        if utterance.label is not None:
            _emotion(root, utterance, utterance.label, began, items)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written + b"\n"


def _emotion(
    root: ElementTree.Element, utterance: Labelled, label: Emotion, began: datetime, items: dict[str, str]
) -> None:
    times = {"start": _milliseconds(began, utterance.start), "end": _milliseconds(began, utterance.end)}
    emotion = _under(root, "emotion", id=f"u{utterance.utterance}", **times)
    through = [EXPRESSED_THROUGH[name] for name in label.modalities.used if name in EXPRESSED_THROUGH]
    if through:
        emotion.set("expressed-through", " ".join(through))
    info = _under(emotion, "info")
    _own(info, "speaker", utterance.speaker)
    _own(info, "words", utterance.text)
    _own(info, "media-start", f"{utterance.start:.3f}")
    _own(info, "media-end", f"{utterance.end:.3f}")
    _own(info, "final", str(label.final).lower())
    _own(info, "uncertain", str(label.uncertain).lower())
    for name, probability in label.probabilities.items():
        share = f"{probability:.6f}"
        _under(emotion, "category", name=items[name], value=share, confidence=share)
    if (arousal := _arousal(label)) is not None:
        _under(emotion, "dimension", name="arousal", value=f"{(arousal + 1) / 2:.4f}")


def _arousal(label: Emotion | None) -> float | None:
    """-1 (calm) … 1 (excited); None where it is not known."""
    return None if label is None or label.voice is None else label.voice.arousal


def _began(session: SessionStarted) -> datetime:
    try:
        began = datetime.fromisoformat(session.time)
        began = began if began.tzinfo else began.replace(tzinfo=UTC)
        _milliseconds(began, MAX_SECONDS)
    except (ValueError, OverflowError):
        raise ExportError(f"session.started has the time {session.time!r}, which is not ISO 8601") from None
    return began


def _milliseconds(began: datetime, seconds: float) -> str:
    return str(round((began + timedelta(seconds=seconds)).timestamp() * 1000))


def _under(parent: ElementTree.Element, name: str, /, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{name}", attributes)


def _own(info: ElementTree.Element, name: str, text: str | None) -> None:
    if text is not None:
        ElementTree.SubElement(info, f"{{{OURS}}}{name}").text = plain(text)
