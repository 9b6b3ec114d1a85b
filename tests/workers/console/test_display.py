from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from stream.clock import VirtualClock
from stream.events import NOT_ANALYSED, Modalities, SessionEnded, SessionStarted, Sound, UtteranceFailed, Voice
from tests.support.events import EMOTION, partial
from workers.console.display import LEGEND, LineDisplay, TableDisplay, clock, describe, summary
from workers.console.terminal import Terminal


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


ENCODERS = {
    "asr": "faster-whisper base, language detected",
    "text": "all-MiniLM-L6-v2, token means of layers 2, 4, 6, tuned; reads en; expert: all-MiniLM-L6-v2, tuned",
    "audio": "prosody (Praat); expert: voice (WeSpeaker)", "visual": None, "speaker": None, "vad": "webrtc",
}  # fmt: skip
WHOLE = (
    "session s: words: Whisper base (language detected) · text: all-MiniLM-L6-v2 · voice: Praat, WeSpeaker · "
    "speakers: one per channel · VAD: WebRTC"
)


@pytest.mark.parametrize(
    ("changed", "speakers", "line"),
    [
        ({}, "channel", WHOLE),
        (
            {"asr": "faster-whisper tiny.en, English only, it cannot tell other languages", "vad": "given turns",
             "visual": "faces (YuNet); shown only: mini-Xception"},
            "turns",
            "session s: words: Whisper tiny.en (English only) · text: all-MiniLM-L6-v2 · voice: Praat, WeSpeaker · "
            "faces: YuNet, mini-Xception (shown only) · speakers: as given · VAD: given turns",
        ),
        (
            {"asr": None, "vad": "silero", "audio": "expert: voice (WeSpeaker)",
             "visual": "faces (YuNet); expert: other", "speaker": "voice embeddings (GE2E), clustered; enrolled: 2"},
            "cluster",
            "session s: no words · voice: WeSpeaker · faces: YuNet, other · speakers: told apart by voice (2 known) · "
            "VAD: Silero",
        ),
        (
            {"asr": "transcript a, b; c: d.stm", "audio": None, "text": "some encoder"},
            "channel",
            "session s: words: transcript a, b; c: d.stm · text: some encoder · no voice · speakers: one per channel · "
            "VAD: WebRTC",
        ),
        (dict.fromkeys(ENCODERS), "channel", "session s: no words · no voice · speakers: one per channel"),
    ],
)  # fmt: skip
def test_what_listens_in_short(changed: dict[str, str | None], speakers: str, line: str) -> None:
    event = SessionStarted(
        id="s:started", session="s", time="now", sources=["x"], channels="mixed", speakers=speakers,
        encoders=ENCODERS | changed, checkpoint="meld", emotions=["neutral"], consent=None, redacted=False,
    )  # fmt: skip
    assert describe(event) == line
    assert describe(event.model_copy(update={"encoders": {}})).startswith("session s: no words"), "of a stranger"


def test_a_laugh_is_told_before_the_words() -> None:
    sounds = [Sound(sound=name, start=1, end=2, probability=0.9) for name in ("laughter", "sigh", "laughter")]
    event = EMOTION.model_copy(update={"voice": Voice(arousal=None, expression=None, sounds=sounds)})
    assert describe(event).endswith("(laughs, sighs) Hi")
    display, plain = TableDisplay(Terminal(file=io.StringIO())), Console(file=io.StringIO(), width=100)
    display.event(event)
    plain.print(display.table())
    assert "(laughs, sighs) Hi" in plain.file.getvalue()  # type: ignore[attr-defined]
    unheard = event.model_copy(update={"voice": Voice(arousal=0.5, expression=None)})
    assert describe(unheard) == describe(EMOTION), "arousal is on the page and in the event"


def test_the_legend_of_lines_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = LineDisplay()
    for event in (EMOTION, EMOTION.model_copy(update={"uncertain": True})):
        display.event(event)
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2 and shown.err == f"{LEGEND}\n"


def test_lines_and_summary() -> None:
    assert clock(3723.45) == "62:03.5" or clock(3723.45) == "62:03.4"
    assert "joy" in describe(EMOTION) and "now" in describe(EMOTION)
    failed = UtteranceFailed(
        id="s:1:failed", session="s", utterance=1, speaker="Ann", audio_start=0, audio_end=1, reason="broke"
    )
    assert "no label: broke" in describe(failed)
    unread = Modalities(used=["audio"], missing=["text"], reasons={"text": "language: de", "audio": NOT_ANALYSED})
    assert describe(EMOTION.model_copy(update={"modalities": unread})).endswith("Hi  (no text: language: de)")
    ended = SessionEnded(
        id="s:ended", session="s", reason="end of source", duration=60, utterances=9, failed=1, counts={"split": 2}
    )
    assert summary(ended, 30) == (
        "end of source: 9 utterances (1 without label) in 1:00.0 of media, 2.0 x real time, split: 2"
    )
    broken = ended.model_copy(update={"reason": "error: x: no answer"})
    assert summary(broken, 0).startswith("error: x: no answer: 9 utterances")
    nothing = {"duration": 0.0, "utterances": 0, "failed": 0, "counts": {"reconnects": 0}}
    assert summary(broken.model_copy(update=nothing), 3) == "error: x: no answer"


def test_a_known_length_has_a_bar_the_share_and_the_time_left() -> None:
    time = VirtualClock()

    ended = SessionEnded(id="s:ended", session="s", reason="", duration=59.2, utterances=9, failed=1, counts={})

    def drawn(length: float | None, *moments: tuple[float, float], ends: str | None = None) -> str:
        """The screen after positions, each after so many seconds."""
        screen = io.StringIO()
        with TableDisplay(Terminal(file=screen, width=100, height=20, force_terminal=True), length, time) as display:
            for position, seconds in ((0.04, 0.0), *moments):
                asyncio.run(time.sleep(seconds))
                display.position(position)
            if ends is not None:
                display.event(ended.model_copy(update={"reason": ends}))
        return screen.getvalue()

    half = drawn(60, (20, 10))
    assert "33 %" in half and "0:20.0 left" in half and "━" in half
    longer = drawn(60, (20, 10), (80, 30))
    assert "100 %" in longer and "0:00.0 left" not in longer, "a header may be wrong"
    whole = drawn(60, (59.1, 30), ends="end of source").rpartition(" left")[2]
    assert "100 %" in whole, "all of it was heard, whatever the header says"
    assert "100 %" not in drawn(60, (59.0, 30), ends="interrupted")
    endless = drawn(None, (20, 10))
    assert "%" not in endless and "━" not in endless and "left" not in endless
