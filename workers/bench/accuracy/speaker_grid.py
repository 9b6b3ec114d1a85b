"""`undertone bench speakers --grid`: what other thresholds of diarization would give, on what they were chosen by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from model.encoders.speaker import SpeakerEncoder
from model.encoders.speaker_activity import SpeakerActivityNet
from model.progress import Progress
from stream.block import Utterance
from stream.speech.local_speakers import FRAME_S
from stream.speech.overlap_segmenter import STEP, OverlapSegmenter
from stream.speech.speakers import SpeakerClusters
from stream.speech.turns import Turn
from workers.bench.accuracy.speakers import CHOSEN, Case, constructed, heard, merged, named, recorded, score, turns_of
from workers.console.tables import Rows
from workers.session.diarization import (
    MIN_CHANGE_LIKENESS,
    PIECE_S,
    Diarization,
    SpeakerSegment,
    speaker_segments,
)

CLUSTERS = {"SAME": (0.4, 0.45, 0.55, 0.6), "APART": (0.0, 0.1, 0.3, 0.4), "MERGE": (0.55, 0.6, 0.7, 0.8)}
"""Other values of `SpeakerClusters`' thresholds."""
PROOF = 10.0
"""Value of `APART` with which a voice at the same time is another speaker's, whatever it sounds like."""
PIECES_S = 0.75, 1.5, 2.0
CHANGES = 0.5, 0.55, 0.65, 0.7
STEPS = 15, 60
GAINS = 0.1, 3.0
LATER = 2
"""Utterances after which a name is decided anew, as for a final label."""


@dataclass(frozen=True)
class Setting:
    """One change of what is shipped."""

    name: str = "shipped"
    value: str = ""
    clusters: tuple[tuple[str, float], ...] = ()
    piece: float = PIECE_S
    change: float = MIN_CHANGE_LIKENESS
    step: int = STEP
    gain: float = 1.0
    later: bool = False

    @cached_property
    def cluster_class(self) -> type[SpeakerClusters]:
        """`SpeakerClusters` with other thresholds."""
        return type("Clusters", (SpeakerClusters,), dict(self.clusters))


def settings() -> list[Setting]:
    """The shipped setting, and one change of it at a time."""
    return [
        Setting(),
        *(Setting(f"SpeakerClusters.{n}", f"{v:g}", ((n, v),)) for n, values in CLUSTERS.items() for v in values),
        Setting("talking at the same time", "proves another speaker", (("APART", PROOF),)),
        *(Setting("change of voice, likeness", f"{change:g}", change=change) for change in CHANGES),
        *(Setting("pieces compared", f"{piece:g} s", piece=piece) for piece in PIECES_S),
        *(Setting("window moves on by", f"{step * FRAME_S:.2f} s", step=step) for step in STEPS),
        *(Setting("sound multiplied by", f"{gain:g}", gain=gain) for gain in GAINS),
        Setting("name decided anew", f"{LATER} utterances later", later=True),
    ]


def bench_speaker_grid(data: Path, progress: Progress) -> Rows:
    """A row for each setting: diarization error rate, in percent, of the telephone call and of the half of the
    constructed conversations by which thresholds were chosen.

    data: folder with `conversations` and `librispeech`. Raises AnnotationError, MediaError.
    """
    cases = {"telephone": [case for case in recorded(data / "conversations") if case.group == "telephone"]}
    cases["constructed"] = list(constructed(data / "librispeech", CHOSEN))
    grid = Grid()
    rows: Rows = []
    every = settings()
    for n, setting in enumerate(every):
        progress.step("settings", n, len(every))
        errors = {group: grid.error(those, setting) for group, those in cases.items()}
        rows.append({"setting": setting.name, "value": setting.value} | errors)
    return rows


class Grid:
    """Diarization with one setting after another; what several share is computed once."""

    def __init__(self) -> None:
        self._network, self._encoder = SpeakerActivityNet(), SpeakerEncoder()
        self._utterances: dict[tuple[int, int, float], list[Utterance]] = {}
        self._parts: dict[tuple[int, float, float], list[SpeakerSegment]] = {}

    def error(self, cases: Sequence[Case], setting: Setting) -> float:
        """Diarization error rate of the conversations together, in percent."""
        from pyannote.metrics.diarization import DiarizationErrorRate

        errors = DiarizationErrorRate()
        for case in cases:
            score(errors, case, asyncio.run(self._turns(case, setting)))
        return round(100 * float(abs(errors)), 1)

    async def _turns(self, case: Case, setting: Setting) -> list[Turn]:
        key = id(case), setting.step, setting.gain
        if key not in self._utterances:
            samples = case.samples * np.float32(setting.gain)
            self._utterances[key] = heard(samples, OverlapSegmenter(self._network, step=setting.step))
        utterances = self._utterances[key]

        async def parts(utterance: Utterance) -> list[SpeakerSegment]:
            return self._segments(utterance, setting)

        clusters = setting.cluster_class()
        diarization = Diarization(clusters, parts)
        if not setting.later:
            return await named(utterances, diarization)
        turns: list[list[Turn]] = []
        for n, utterance in enumerate(utterances):
            spoken, merges = await diarization.tell_apart(replace(utterance, speaker=None))
            turns = [merged(those, merges) for those in (*turns, turns_of(spoken))]
            if n >= LATER and len(voices := await parts(utterances[n - LATER])) == 1:
                name = clusters.nearest(voices[0].voice) or turns[-1][-1].speaker
                turns[n - LATER] = [replace(turn, speaker=name) for turn in turns[n - LATER]]
        return [turn for those in turns for turn in those]

    def _segments(self, utterance: Utterance, setting: Setting) -> list[SpeakerSegment]:
        key = id(utterance.samples), setting.piece, setting.change
        if key not in self._parts:
            self._parts[key] = speaker_segments(
                self._encoder, utterance.samples, utterance.alone, setting.piece, setting.change
            )
        return self._parts[key]
