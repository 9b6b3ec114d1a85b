"""Columns of the tables that are compared between runs, and the direction in which they improve."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    """Kind of a figure: the better direction, and the influence of the machine's speed."""

    TIME = auto()
    """Less is better; a faster machine has less."""
    SPEED = auto()
    """More is better; a faster machine has more."""
    COST = auto()
    """Less is better, on any machine: errors, memory."""
    SCORE = auto()
    """More is better, on any machine."""


@dataclass(frozen=True)
class Figures:
    """Columns of one table: those that identify a row, and those that are compared. Others are only shown."""

    labels: tuple[str, ...]
    kinds: dict[str, Kind]


TIME, SPEED, COST, SCORE = Kind
_GRAPH = Figures(("work",), {"ms, median": TIME})
_BATCHING = Figures(("sessions",), {"steps/s": SPEED})
FIGURES = {
    "vad": Figures(("vad", "recordings"), {"detection_error_rate": COST, "times_real_time": SPEED}),
    "asr": Figures(("asr", "recordings"), {"WER": COST, "heard": COST, "times_real_time": SPEED}),
    "der": Figures(("way", "conversations"), {"DER": COST, "JER": COST, "times_real_time": SPEED}),
    "conditions": Figures(("conversations",), {"DER": COST, "JER": COST}),
    "voices": Figures(("embedding", "pieces_s"), {"EER": COST, "ms_each": TIME}),
    "voice": Figures(
        ("encoder", "clips", "condition"), {"UAR, 8 classes": SCORE, "UAR, 7 classes": SCORE, "ms_each": TIME}
    ),
    "sounds": Figures(
        ("recordings",),
        {"laughter_an_hour": COST, "crying_an_hour": COST, "sigh_an_hour": COST, "ms_a_second": TIME},
    ),
    "faces": Figures(("what", "pictures"), {"found": SCORE, "right": SCORE, "ms_each": TIME}),
    "endtoend": Figures(
        ("recording",), {"segmentation": COST, "WER": COST, "DER": COST, "emotion": COST, "emotion_final": COST}
    ),
    "encoders": Figures(("encoder",), {"ms": TIME, "MB_on_disk": COST, "MB_in_memory": COST}),
    # The rest of the time to label is silence and blocks that pass in real time, on any machine.
    "latency": Figures(("words", "ahead"), {"asr": TIME, "encode": TIME, "graph": TIME}),
    "one_microphone": Figures(("words", "vad"), {"asr": TIME, "encode": TIME}),
    "startup": Figures(("part",), {"seconds": TIME}),
    "ray": Figures(("call",), {"there and back ms": TIME, "in the actor ms": TIME}),
    "graph": _GRAPH,
    "graph_256": _GRAPH,
    "batching": _BATCHING,
    "batching_256": _BATCHING,
    "capacity": Figures(("words", "sessions"), {"s/min": TIME}),
    "capacity_costs": Figures(("words", "process"), {"s/min": TIME, "MB each": COST}),
    "throughput": Figures(("words", "modalities"), {"times real time": SPEED}),
    "scale": Figures(("nodes",), {"Ray ms": TIME, "Redis ms": TIME}),
    "longevity": Figures(("process",), {"MB last third": COST}),
}
"""Figures by name of the table. Other tables are shown and not compared."""
