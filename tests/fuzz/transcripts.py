"""Transcripts beside a recording: STM, VTT, SRT and CSV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from stream.speech.transcript import read_transcript
from stream.speech.turns import AnnotationError
from tests.fuzz.mutations import WORDS, mutated
from tests.fuzz.target import Target

SEEDS = {
    "stm": b";; a call\ncall 1 Ann 0.00 1.50 <o,f0> Hello, who is it?\n"
    b"call 2 Ben 1.6 2.5 It is me.\ncall A Ann 3 4 Oh.\n",
    "vtt": (
        b"WEBVTT - a call\n\nNOTE who knows\n\nSTYLE\n::cue { color: red }\n\n1\n"
        b"00:00:00.000 --> 00:00:01.500 align:start\n<v Ann>Hello, <i>who</i> is it?\n\n"
        b"00:01.600 --> 00:02.500\n<v.loud Ben>It is me.</v>\n- Yes.\n"
    ),
    "srt": b"1\n00:00:00,000 --> 00:00:01,500\nHello, who is it?\n\n2\n"
    b"00:00:01,600 --> 00:00:02,500\nIt is me.\nReally.\n",
    "txt": b"0:00 Ann: Hello, who is it?\n[0:02] Ben: It is me.\nAnn  0:04\nOh.\n",
    "csv": b'start,end,text,speaker,channel\n0,1.5,"Hello, who is it?",Ann,1\n1.6,2.5,It is me.,Ben,2\n',
}


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    def take(given: tuple[str, bytes]) -> None:
        suffix, content = given
        file = folder / f"call.{suffix}"
        file.write_bytes(content)
        transcript = read_transcript(file, "call")
        names = transcript.channel_names()
        assert all(turn.start < turn.end for turn in transcript.turns())
        transcript.consume(0.0, 2.0, 0, names.get(0), peek=True)
        transcript.consume(0.0, float("inf"))
        assert transcript.unused <= transcript.words

    words = (*WORDS, b"00:00:01.000 --> 00:00:00.000", b"99:99:99.999", b"\n\n", b"WEBVTT")
    files = st.sampled_from(sorted(SEEDS)).flatmap(
        lambda suffix: st.tuples(st.just(suffix), mutated([SEEDS[suffix], *SEEDS.values()], words))
    )
    yield Target(files, take, refusals=(AnnotationError,))
