from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream.sources.file import FileSource
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.recordings import voice, write_mp4, write_wav
from workers.errors import UsageError
from workers.session.planning import plan_session
from workers.session.settings import SessionSettings, settings_from_recording


@pytest.fixture
def mono(tmp_path: Path) -> FileSource:
    return FileSource(write_wav(tmp_path / "My Call (1).wav", voice(1)[None]))


def test_a_stereo_call_with_its_transcript() -> None:
    planned = plan_session(SessionSettings(transcript=DEMO_TRANSCRIPT), FileSource(DEMO))
    plan = planned.plan
    assert (plan.speakers, plan.channels, plan.names) == ("channel", 2, {0: "Mara", 1: "Jonas"})
    assert planned.needs.asr is None and plan.encoders["asr"] == f"transcript {DEMO_TRANSCRIPT.name}"
    assert plan.encoders["visual"] is None
    assert plan.session.startswith("conversation-")
    named = plan_session(SessionSettings(transcript=DEMO_TRANSCRIPT, names={0: "Anna"}), FileSource(DEMO)).plan
    assert named.names == {0: "Anna", 1: "Jonas"}


def test_a_mono_call_is_clustered_unless_turns_are_given(mono: FileSource, tmp_path: Path) -> None:
    plan = plan_session(SessionSettings(asr="none"), mono).plan
    assert plan.speakers == "cluster" and plan.session.startswith("my-call-1-")
    turns = plan_session(SessionSettings(transcript=DEMO_TRANSCRIPT), FileSource(mono.path)).plan
    assert turns.speakers == "turns" and len(turns.turns) == 14 and turns.encoders["vad"] == "given turns"
    captions = tmp_path / "a.srt"
    captions.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    assert plan_session(SessionSettings(transcript=captions), mono).plan.speakers == "cluster"


def test_without_praat_prosody_is_missing_and_said_so(mono: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.encoders.prosody.available", lambda: False)
    plan = plan_session(SessionSettings(asr="none"), mono).plan
    assert plan.encoders["audio"] == "expert: voice (WeSpeaker)" and plan.encoders["text"] is not None
    with pytest.raises(UsageError, match="nothing to analyse"):
        plan_session(SessionSettings(asr="none", modalities=("text",)), mono)


def test_a_text_only_session_measures_no_voice(mono: FileSource, tiny: str) -> None:
    plan = plan_session(SessionSettings(asr_model=tiny, modalities=("text",)), mono).plan
    assert plan.modalities == ("text",) and plan.encoders["audio"] is None


def test_a_named_microphone_is_one_speaker(mono: FileSource) -> None:
    plan = plan_session(SessionSettings(asr="none", names={0: "Anna"}), mono).plan
    assert plan.speakers == "channel" and plan.names == {0: "Anna"}


def test_a_film_is_looked_at_though_no_model_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = FileSource(write_mp4(tmp_path / "film.mp4", voice(1)[None]))
    monkeypatch.delenv("UNDERTONE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    planned = plan_session(SessionSettings(asr="none"), film)
    assert planned.plan.encoders["visual"] == "faces (YuNet); expert: mini-Xception" and planned.needs.faces
    shown = plan_session(SessionSettings(checkpoint="emorynlp", asr="none", modalities=("text", "visual")), film)
    assert shown.plan.encoders["visual"] == "faces (YuNet); shown only: mini-Xception"
    covered = plan_session(SessionSettings(asr="none", modalities=("text", "audio")), film)
    assert covered.plan.encoders["visual"] is None and not covered.needs.faces


def test_speakers_that_contradict_the_channels(mono: FileSource) -> None:
    for wish, source in (("channel", mono), ("turns", mono), ("cluster", FileSource(DEMO))):
        with pytest.raises(UsageError, match="--speakers"):
            plan_session(SessionSettings(speakers=wish, asr="none"), source)
    assert np.isfinite(mono.info.duration or 0)


def test_people_on_one_channel_are_heard_by_a_network_that_hears_overlap(mono: FileSource) -> None:
    plan = plan_session(SessionSettings(asr="none", people="2-4"), mono).plan
    assert (plan.vad, plan.encoders["vad"], plan.people_count) == ("pyannote", "pyannote", (2, 4))
    assert plan_session(SessionSettings(asr="none", vad="silero"), mono).plan.vad == "silero"
    stereo = plan_session(SessionSettings(asr="none", people="3"), FileSource(DEMO)).plan
    assert stereo.vad == "webrtc" and any("--people not used" in note for note in stereo.notes)
    with pytest.raises(UsageError, match="--vad pyannote"):
        plan_session(SessionSettings(asr="none", vad="pyannote"), FileSource(DEMO))


def test_a_session_recorded_with_a_recognizer_that_is_gone_is_heard_by_the_one_there_is(tmp_path: Path) -> None:
    settings, _ = SessionSettings(names={0: "Anna"}).recording()
    assert settings_from_recording(settings | {"asr": "pocketsphinx"}, tmp_path).asr == "auto"
    assert settings_from_recording(settings | {"asr": "none"}, tmp_path).asr == "none"


@pytest.mark.parametrize(("model", "language"), [("tiny.en", "de"), ("base", "xx")])
def test_a_language_that_the_model_does_not_know_is_refused(
    mono: FileSource, tiny: str, base: str, model: str, language: str
) -> None:
    with pytest.raises(UsageError, match=f"--language: '{language}' is none that faster-whisper {model} knows: "):
        plan_session(SessionSettings(asr_model=model, language=language), mono)
    assert plan_session(SessionSettings(asr_model=model, language="en"), mono).needs.asr == model


@pytest.mark.parametrize(
    ("names", "stereo", "options", "note"),
    [
        (
            ("Anna", "Ben"),
            False,
            {},
            "--names: Anna, Ben not used: names are of channels, and people on one channel are",
        ),
        (("Anna", "Ben"), False, {"transcript": DEMO_TRANSCRIPT}, "names are of channels, and the given turns say who"),
        (("Anna",), False, {"speakers": "cluster"}, "--names: Anna not used"),
        (("Anna", "Ben", "Cy"), True, {}, "--names: Cy not used: there are 2 channels to name"),
        (("Anna", "Ben"), True, {}, None),
        (("Anna",), False, {}, None),
    ],
)
def test_names_that_are_nobodys_are_told(
    mono: FileSource, names: tuple[str, ...], stereo: bool, options: dict[str, object], note: str | None
) -> None:
    settings = SessionSettings(asr="none", names=dict(enumerate(names)), **options)
    plan = plan_session(settings, FileSource(DEMO) if stereo else mono).plan
    assert len(plan.notes) == (note is not None) and (note is None or note in plan.notes[0])


def test_lines_that_cannot_be_used_are_told_without_their_words(mono: FileSource, tmp_path: Path) -> None:
    words, turns = tmp_path / "a.vtt", tmp_path / "a.rttm"
    words.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nHi\n\n00:03.000 --> 00:02.000 secret\nsecret\n")
    turns.write_text("SPEAKER a 1 1 1 <NA> <NA> Ann <NA> <NA>\nSPEAKER a 1 secret 0 <NA> <NA> Ann <NA> <NA>\n")
    plan = plan_session(SessionSettings(transcript=words, rttm=turns), mono).plan
    assert plan.lines_left_out == 2 and plan.notes == (
        "a.vtt: 1 line left out, the first is line 6: a cue that ends before it starts",
        "a.rttm: 1 line left out, the first is line 2: not an RTTM line",
    )


def test_what_a_checkpoint_has_not_is_refused_only_where_it_was_asked_for(mono: FileSource) -> None:
    settings = SessionSettings(checkpoint="emorynlp", asr="none", transcript=DEMO_TRANSCRIPT)
    assert plan_session(settings, mono).plan.encoders["text"]
    with pytest.raises(UsageError, match="--modalities: the checkpoint knows text, visual, not audio"):
        plan_session(settings.model_copy(update={"modalities": ("text", "audio")}), mono)
