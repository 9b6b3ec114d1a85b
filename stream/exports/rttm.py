"""RTTM (Rich Transcription Time Marked, NIST): the turns of all speakers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream.events import Event
from stream.exports.labelled import labelled, removed
from stream.exports.text import distinct, plain

# Fields are separated by blanks and cannot be quoted; <NA> and ;; are reserved.
_UNFIT = re.compile(r"""[\s<>;"']+""")


def rttm(events: Sequence[Event]) -> bytes:
    """RTTM, UTF-8: one SPEAKER line per utterance; characters not allowed in a name become `_`."""
    session = _fit(events[0].session)
    utterances = labelled(events)
    speakers = list(dict.fromkeys(utterance.speaker for utterance in utterances))
    names = dict(zip(speakers, distinct([_fit(speaker) for speaker in speakers]), strict=True))
    note = f";; {gap}\n" if (gap := removed(events)) else ""
    return (
        note
        + "".join(
            f"SPEAKER {session} 1 {utterance.start:.3f} {utterance.end - utterance.start:.3f} "
            f"<NA> <NA> {names[utterance.speaker]} <NA> <NA>\n"
            for utterance in utterances
        )
    ).encode()


def _fit(name: str) -> str:
    return _UNFIT.sub("_", plain(name))
