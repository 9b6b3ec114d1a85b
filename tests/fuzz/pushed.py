"""What is pushed to a track: PCM and WebM in pieces, over connections that break, are replaced or talk nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from stream.errors import MediaError
from stream.sources.pushed import PushedTrack
from tests.fuzz.media import recording
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target
from tests.support.recordings import voice

Step = tuple[str, str, object]


def take(steps: list[Step]) -> None:
    """A sender's calls one after the other; then what came is read, as the session's thread does."""
    track = PushedTrack("Mara", video=True, patience=0.0)
    refused: MediaError | None = None
    attached = 0
    for what, connection, value in steps:
        try:
            match what, value:
                case "attach", (str(form), int(rate)):
                    track.attach(connection, form, rate)
                    attached += 1
                case "feed", bytes(piece):
                    track.feed(connection, piece)
                case "detach", bool(over):
                    track.detach(connection, over)
        except MediaError as error:
            refused = error
    for _, connection, _ in steps:
        track.detach(connection, True)
    for _ in range(attached):
        try:
            source = track.connect()
            for block in source:
                assert block.samples.shape[0] == 1 and np.isfinite(block.samples).all()
            assert source.ended_early is None or source.ended_early.isprintable()
        except MediaError as error:
            refused = error
    if refused is not None:
        raise refused


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    sound = (voice(0.3) * 32767).astype("<i2").tobytes()
    pieces = mutated([sound, recording("webm", "libopus")]) | st.binary(max_size=64)
    names = st.sampled_from(["a", "b"])
    forms = st.tuples(
        st.sampled_from(["webm", "webm", "pcm", "pcm", "mp3", ""]),
        st.sampled_from([16_000, 48_000, 8_000, 96_000, 0, -1, 7_999, 1 << 40]),
    )
    steps = st.lists(
        st.one_of(
            st.tuples(st.just("attach"), names, forms),
            st.tuples(st.just("feed"), names, pieces),
            st.tuples(st.just("detach"), names, st.booleans()),
        ),
        max_size=5,
    )
    begun = st.builds(
        lambda form, piece, rest: [("attach", "a", form), ("feed", "a", piece), *rest], forms, pieces, steps
    )
    yield Target(begun, take, refusals=(MediaError,))
