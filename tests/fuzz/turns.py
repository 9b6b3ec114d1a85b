"""Who speaks when: RTTM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.speech.turns import AnnotationError, read_rttm
from tests.fuzz.mutations import WORDS, mutated
from tests.fuzz.target import Target

SEEDS = (
    b"SPEAKER call 1 0.00 1.50 <NA> <NA> Ann <NA> <NA>\nSPEAKER call 1 1.60 0.90 <NA> <NA> Ben <NA> <NA>\n",
    b";; two recordings\nSPKR-INFO a 1 <NA> <NA> <NA> unknown Ann <NA> <NA>\n"
    b"SPEAKER a 1 0 1 <NA> <NA> Ann <NA> <NA>\nSPEAKER b 1 0 2 <NA> <NA> Ben <NA> <NA>\n",
)


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    file = folder / "call.rttm"

    def take(content: bytes) -> None:
        file.write_bytes(content)
        for turn in read_rttm(file, "call"):
            assert 0 <= turn.start < turn.end < math.inf and turn.speaker

    yield Target(mutated(SEEDS, (*WORDS, b"SPEAKER")), take, refusals=(AnnotationError,))
