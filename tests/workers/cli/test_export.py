"""The format of an export: the suffix of its file decides, and --format must agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.events import SessionStarted
from stream.exports import FORMATS
from tests.support.commands import here
from tests.support.events import ended, label


@pytest.fixture
def events(tmp_path: Path) -> Path:
    started = SessionStarted(
        id="s:started", session="s", time="2026-01-01T00:00:00Z", sources=["x"], channels="mixed", speakers="cluster",
        encoders={}, checkpoint="meld", emotions=["joy", "neutral"], consent=None, redacted=False,
    )  # fmt: skip
    file = tmp_path / "events.jsonl"
    file.write_text("".join(event.wire() + "\n" for event in (started, label("s", 0), ended("s"))))
    return file


@pytest.mark.parametrize("name", FORMATS)
def test_the_suffix_decides(name: str, events: Path, tmp_path: Path) -> None:
    out, named = tmp_path / f"out{FORMATS[name].suffix.upper()}", tmp_path / "named"
    done = here("export", events, "--out", out)
    assert done.returncode == 0
    assert re.fullmatch(rf"{re.escape(str(out))}: \d+ utterances, [\d,]+ bytes\n", done.stderr)
    assert here("export", events, "--out", named, "--format", name).returncode == 0
    if name == "csv":
        assert out.read_text().startswith("session,") and "joy" in out.read_text()
    if name not in ("elan", "html", "parquet"):  # these have a date in them
        assert out.read_bytes() == named.read_bytes()


def test_without_a_file_they_are_json_lines(events: Path) -> None:
    assert here("export", events).stdout == events.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "x.csv", "--format", "jsonl"), "--format jsonl writes .jsonl, and --out x.csv ends as csv does"),
        (
            ("--out", "x.eaf", "--format", "textgrid"),
            "--format textgrid writes .TextGrid, and --out x.eaf ends as elan",
        ),
        (("--out", "x.xyz"), "--out: the ending of x.xyz is no export format; there are jsonl (.jsonl), csv (.csv)"),
        (("--out", "x"), "elan (.eaf)"),
        (("--format", "wav"), "unknown format 'wav': one of jsonl, csv"),
    ],
)
def test_what_contradicts_is_refused_and_nothing_written(
    options: tuple[str, ...], said: str, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = here("export", events, *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == [events]
