from __future__ import annotations

import io

from rich.console import Console

from stream.events import Modalities, SessionEnded, SessionStarted, UtteranceFailed
from tests.support.events import EMOTION, partial
from workers.console.display import TableDisplay, clock, describe, summary


def test_the_table_shows_label_probability_and_doubt() -> None:
    console = Console(file=io.StringIO(), width=100, height=20, force_terminal=True)
    display = TableDisplay(console)
    display.event(
        SessionStarted(
            id="s:started",
            session="s",
            time="now",
            sources=["x"],
            channels="mixed",
            speakers="cluster",
            encoders={"asr": "faster-whisper base", "visual": None},
            checkpoint="meld",
            emotions=["neutral", "joy"],
            consent=None,
            redacted=False,
        )
    )
    display.event(EMOTION.model_copy(update={"uncertain": True}))
    display.event(EMOTION.model_copy(update={"utterance": 4, "speaker": "[b]", "text": "[laughter] [/noise]"}))
    display.event(EMOTION.model_copy(update={"revision": 1, "final": True, "emotion": "neutral", "id": "s:3:1"}))
    display.event(partial("s", 5, "So what do", stable="So what").model_copy(update={"speaker": "Mia"}))
    plain = Console(file=io.StringIO(), width=100)
    plain.print(display.table())
    shown = plain.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("Ann") == 1, "a revision replaces the row"
    assert "So what do" in shown, "also before there is a label"
    assert "[laughter] [/noise]" in shown and "[b]" in shown, "words are no markup"
    assert "neutral" in shown and "0.25" in shown and "0:01.0" in shown and "positive" in shown


def test_lines_and_summary() -> None:
    assert clock(3723.45) == "62:03.5" or clock(3723.45) == "62:03.4"
    assert "joy" in describe(EMOTION) and "now" in describe(EMOTION)
    failed = UtteranceFailed(
        id="s:1:failed", session="s", utterance=1, speaker="Ann", audio_start=0, audio_end=1, reason="broke"
    )
    assert "no label: broke" in describe(failed)
    unread = Modalities(used=["audio"], missing=["text"], reasons={"text": "language: de"})
    assert describe(EMOTION.model_copy(update={"modalities": unread})).endswith("Hi  (no text: language: de)")
    ended = SessionEnded(
        id="s:ended", session="s", reason="end of source", duration=60, utterances=9, failed=1, counts={"split": 2}
    )
    assert summary(ended, 30) == (
        "end of source: 9 utterances (1 without label) in 1:00.0 of media, 2.0 x real time, split: 2"
    )
