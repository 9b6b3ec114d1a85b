"""The settings of a session: in a recording, by the pace, from a client of the gateway."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from stream.errors import MediaError
from workers.cluster.request import Options, SessionRequest, UploadRequest
from workers.errors import UsageError
from workers.session.settings import CommonSettings, Help, SessionSettings, settings_from_recording

KEPT = {
    "asr", "asr_model", "checkpoint", "enrolled", "interim", "language", "mask", "modalities", "names", "people",
    "redact", "speakers", "vad",
}  # fmt: skip


def test_a_recording_keeps_what_a_replay_needs(tmp_path: Path) -> None:
    said = SessionSettings(
        session="one", consent="Ann", kept=60, names={1: "Ben"}, modalities=("text",), asr="none", interim=0,
        transcript=Path("words.stm"),
    )  # fmt: skip
    settings, files = said.recording()
    assert settings.keys() == KEPT and files == {"transcript": Path("words.stm")}
    stored = json.loads(json.dumps(settings)) | {"transcript": "transcript.stm", "split": True, "loudness": 11}
    (tmp_path / "transcript.stm").write_text("call 1 Ann 0 1 Hello\n")
    replayed = settings_from_recording(stored, tmp_path)
    assert replayed == said.model_copy(
        update={"session": None, "consent": None, "kept": 86_400, "transcript": tmp_path / "transcript.stm"}
    )


@pytest.mark.parametrize("damage", [{"modalities": "smell"}, {"names": ["Ann"]}, {"interim": -1}, {"vad": None}])
def test_damaged_settings_are_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    settings, _ = SessionSettings().recording()
    with pytest.raises(UsageError, match="its settings are damaged") as refused:
        settings_from_recording(settings | damage, tmp_path)
    assert next(iter(damage)) in str(refused.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"asr_model": "someone/whisper"}, "model 'someone/whisper' is not Undertone's; to use it, add --asr-model"),
        ({"asr_model": "/tmp"}, "'/tmp' is not Undertone's; to use it, add --asr-model"),
        ({"asr_model": ["base"]}, "add --asr-model"),
        ({"checkpoint": "."}, "'.' is not Undertone's; to use it, add --checkpoint"),
        ({"checkpoint": "../elsewhere"}, "'../elsewhere' is not Undertone's; to use it, add --checkpoint"),
        ({"transcript": "../secret.stm"}, "no file '../secret.stm' of its own"),
        ({"transcript": "{outside}"}, "secret.stm' of its own"),
        ({"rttm": "link.rttm"}, "no file 'link.rttm' of its own"),
        ({"rttm": "folder"}, "no file 'folder' of its own"),
        ({"rttm": "a\0b"}, "of its own"),
        ({"transcript": 7}, "no file '7' of its own"),
    ],
)
def test_a_recording_of_somebody_else_names_nothing_of_this_machine(
    tmp_path: Path, written: dict[str, object], message: str
) -> None:
    secret, folder = tmp_path / "secret.stm", tmp_path / "recording"
    secret.write_text("call 1 Ann 0 1 Hello\n")
    (folder / "folder").mkdir(parents=True)
    (folder / "link.rttm").symlink_to(secret)
    settings, _ = SessionSettings().recording()
    written = {name: str(secret) if value == "{outside}" else value for name, value in written.items()}
    with pytest.raises((UsageError, MediaError)) as refused:
        settings_from_recording(settings | written, folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert settings_from_recording(settings | written, folder, set(written)) == SessionSettings()


def test_what_depends_on_the_pace() -> None:
    paced, fast = SessionSettings().at_pace(True), SessionSettings().at_pace(False)
    assert (paced.interim, paced.speculate) == (3.0, True) and (fast.interim, fast.speculate) == (0.0, False)
    assert (
        SessionSettings(interim=1).at_pace(False).interim == 1 and SessionSettings(interim=0).at_pace(True).interim == 0
    )
    assert not SessionSettings(speculate=False).at_pace(True).speculate


def test_settings_are_checked_and_do_not_change() -> None:
    for wrong in ({"asr": "psychic"}, {"interim": -1}, {"session": "a b"}, {"volume": 3}, {"kept": 0}):
        with pytest.raises(ValidationError):
            SessionSettings.model_validate(wrong)
    with pytest.raises(ValidationError, match="frozen"):
        SessionSettings().asr = "none"  # type: ignore[misc]


def test_every_setting_has_its_help() -> None:
    for name, field in SessionSettings.model_fields.items():
        assert any(isinstance(part, Help) for part in field.metadata), name


def test_a_client_s_options_become_settings() -> None:
    asked = {
        "consent": "both agreed",
        "id": "call",
        "record": True,
        "modalities": ["audio"],
        "interim": 2,
        "mask": True,
    }
    options = Options.model_validate(asked)
    settings = options.settings(session="call-1", names={0: "Ann"})
    assert (settings.session, settings.recorded, settings.modalities) == ("call-1", True, ("audio",))
    assert (settings.consent, settings.interim, settings.mask, settings.names) == ("both agreed", 2, True, {0: "Ann"})
    assert options.session == "call" and CommonSettings.model_fields.keys() <= Options.model_fields.keys()
    people = {
        "people": [{"name": "Ann", "agreed": True}],
        "how": "by mail",
        "when": "2026-11-01T09:00Z",
        "purpose": "test",
    }
    agreement = Options.model_validate(asked | {"consent": people}).settings().agreement
    assert agreement is not None and agreement.people == ["Ann"] and options.settings().agreement is None
    for model in (SessionRequest, UploadRequest):
        for wrong in (
            {"consent": ""},
            {"checkpoint": "../x"},
            {"interim": 601},
            {"session": "call"},
            {"recorded": True},
        ):
            with pytest.raises(ValidationError):
                model.model_validate(asked | {"source": {"kind": "push", "tracks": [{}]}} | wrong)
