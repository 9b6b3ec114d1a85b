"""Small corpora as their publishers lay them out."""

from __future__ import annotations

from pathlib import Path

MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def meld_release(folder: Path) -> Path:
    rows = (
        '1,"I don\x92t know, really\x85",Ross,sadness,negative,0,0,4,7,"00:16:16,059","00:16:21,731"\n'
        '2,Great!,Joey,joy,positive,0,1,4,7,"00:16:21,940","00:16:23,442"\n'
        '3,Well.,Ross,neutral,neutral,1,0,4,7,"00:17:00,000","00:17:01,000"\n'
    )
    for name in ("train", "dev", "test"):
        (folder / f"{name}_sent_emo.csv").write_text(MELD_HEADER + rows, encoding="utf-8")
    return folder
