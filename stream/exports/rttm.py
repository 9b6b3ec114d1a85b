"""RTTM: who spoke when, NIST's Rich Transcription Time Marked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream.events import Event
from stream.exports.labelled import labelled, started
from stream.exports.text import distinct, plain

# Fields are set apart by blanks and cannot be quoted; <NA> and ;; have meanings of their own.
_UNFIT = re.compile(r"""[\s<>;"']+""")


def rttm(events: Sequence[Event]) -> bytes:
    """A SPEAKER line an utterance, the session as recording; what is unfit in a name becomes `_`."""
    session = _fit(started(events).session)
    utterances = labelled(events)
    speakers = list(dict.fromkeys(utterance.speaker for utterance in utterances))
    names = dict(zip(speakers, distinct([_fit(speaker) for speaker in speakers]), strict=True))
    return "".join(
        f"SPEAKER {session} 1 {utterance.start:.3f} {utterance.end - utterance.start:.3f} "
        f"<NA> <NA> {names[utterance.speaker]} <NA> <NA>\n"
        for utterance in utterances
    ).encode()


def _fit(name: str) -> str:
    return _UNFIT.sub("_", plain(name))
