"""From the options of a command to a session plan: who is a speaker, where words come from, what is switched on."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.encoders import prosody
from model.encoders.asr import DEFAULTS, AsrError, AsrModel, locate
from model.fusion.checkpoint import load_step, resolve, tuned_of
from stream.bus.keys import Keys
from stream.bus.publisher import RETENTION_S
from stream.sources.base import Source
from stream.sources.file import FileSource
from stream.sources.recording import RecordedSource
from stream.speech.transcript import Transcript, read_transcript
from stream.speech.turns import Turn, read_rttm
from workers.session import masking
from workers.session.enrolment import voices
from workers.session.services import ModelRequirements, SessionPlan

RECOGNIZERS = ("auto", "whisper", "none")
"""Choices for the recognizer of speech. auto: Whisper where a model is here, else no words."""


class UsageError(Exception):
    """Options that contradict each other or what is there; the message says what to do."""

    exit_code, http_status = 2, 422


@dataclass(frozen=True)
class SessionSettings:
    """The options shared by `replay` and `live`, as given."""

    checkpoint: str = "meld"
    asr: str = "auto"
    asr_model: str | None = None
    vad: str = "webrtc"
    modalities: tuple[str, ...] = ("text", "audio", "visual")
    names: dict[int, str] = field(default_factory=dict)
    """By channel."""
    session: str | None = None
    consent: str | None = None
    redact: bool = False
    transcript: Path | None = None
    rttm: Path | None = None
    speakers: str = "auto"
    language: str | None = None
    interim: float = 3.0
    enrolled: bool = True
    recorded: bool = False
    speculate: bool = True
    kept: int = RETENTION_S
    """Seconds that Redis keeps the events after the last of them."""
    mask: bool = False


def settings_of(wishes: SessionSettings) -> tuple[dict[str, Any], dict[str, Path]]:
    """What a recorded session has to keep to be replayed alike: the wishes as JSON, and the files they name."""
    settings = asdict(wishes)
    for name in ("session", "consent", "recorded", "speculate", "kept", "transcript", "rttm"):
        del settings[name]
    return settings, {name: path for name in ("transcript", "rttm") if (path := getattr(wishes, name)) is not None}


def settings_from_recording(settings: dict[str, Any], folder: Path) -> SessionSettings:
    """The wishes of a recorded session. Raises UsageError."""
    known = {name: value for name, value in settings.items() if name in SessionSettings.__dataclass_fields__}
    known |= {name: folder / str(known[name]) for name in ("transcript", "rttm") if name in known}
    if known.get("asr") not in RECOGNIZERS:
        known["asr"] = "auto"  # the recognizer of an earlier version
    try:
        known["modalities"] = tuple(known["modalities"])
        known["names"] = {int(channel): name for channel, name in known["names"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder}: its settings are damaged ({error!r})") from None
    return SessionSettings(**known)


@dataclass(frozen=True)
class Planned:
    """A plan and the models that it needs."""

    plan: SessionPlan
    needs: ModelRequirements


def recording_of(source: Source) -> str:
    """Name of a source in STM and RTTM files, which may speak of several recordings."""
    path: Path | None = getattr(source, "path", None)
    return path.stem if path else "live"


def plan_session(wishes: SessionSettings, source: Source) -> Planned:
    """Decide everything before anything starts.

    Raises UsageError, AnnotationError, CheckpointError or AsrError.
    """
    if wishes.mask and not masking.available():
        raise UsageError("--mask needs presidio-analyzer: pip install 'undertone[mask]'")
    recording = recording_of(source)
    transcript = read_transcript(wishes.transcript, recording) if wishes.transcript else None
    speakers, turns = _speakers(wishes, source, transcript, recording)
    model = load_step(wishes.checkpoint)
    unknown = set(wishes.modalities) - {*model.config.modalities, "visual"}
    if unknown or not wishes.modalities:
        known = ", ".join((*model.config.modalities, "visual"))
        raise UsageError(f"--modalities: the checkpoint knows {known}, not {', '.join(unknown) or 'nothing'}")

    asr = unheard = None
    used: dict[str, str | None] = dict.fromkeys(("asr", "text", "audio", "visual", "speaker"))
    if "text" in wishes.modalities:
        tuned = tuned_of(wishes.checkpoint)
        expert = f"; expert: {model.config.reader}, tuned" if tuned.reader else ""
        reads = f"; reads {', '.join(model.config.text.languages)}" if model.config.text.languages else ""
        used["text"] = f"{model.config.text}{', tuned' if tuned.adapter else ''}{reads}{expert}"
        if transcript is not None:
            used["asr"] = f"transcript {wishes.transcript}"
        else:
            recognizer, unheard = _recognizer(wishes)
            if recognizer is not None:
                asr = recognizer.reference
                used["asr"] = f"{recognizer}, {_spoken(wishes.language, recognizer)}"
    if "audio" in wishes.modalities:
        heard = ["prosody (Praat)"] if prosody.available() and "audio" in model.config.modalities else []
        heard += ["expert: voice CNN"] if "voice" in model.config.experts else []
        used["audio"] = "; ".join(heard) or None
    faces = "visual" in wishes.modalities and source.video
    if faces:
        used["visual"] = f"faces (YuNet); {'expert' if 'face' in model.config.experts else 'shown only'}: mini-Xception"
    if used["asr"] is None and used["audio"] is None and used["visual"] is None:
        raise UsageError(f"nothing to label by: {unheard or 'no words (--asr)'}, and no voice or faces (--modalities)")
    enrolled = {}
    if speakers == "cluster":
        enrolled = voices() if wishes.enrolled else {}
        used["speaker"] = "voice embeddings (GE2E), clustered" + (f"; enrolled: {len(enrolled)}" if enrolled else "")
    names = dict(wishes.names)
    if transcript is not None:
        names = transcript.channel_names() | names
    session = wishes.session or f"{_slug(recording)}-{secrets.token_hex(3)}"
    try:
        Keys(session)
    except ValueError as error:
        raise UsageError(f"--session: {error}") from None
    plan = SessionPlan(
        session=session,
        sources=(source.name,),
        channels=source.channels,
        speakers=speakers,
        modalities=wishes.modalities,
        encoders=used | {"vad": "given turns" if speakers == "turns" else wishes.vad},
        checkpoint=str(resolve(wishes.checkpoint).resolve()),
        names=names,
        turns=tuple(turns),
        transcript=transcript,
        vad=wishes.vad,
        language=wishes.language,
        enrolled=enrolled,
        interim=wishes.interim,
        speculate=wishes.speculate,
        live=not isinstance(source, FileSource | RecordedSource),
        redact=wishes.redact,
        mask=wishes.mask,
        consent=wishes.consent,
        recorded=wishes.recorded,
        kept=wishes.kept,
    )
    return Planned(plan, ModelRequirements(asr, faces))


def _recognizer(wishes: SessionSettings) -> tuple[AsrModel | None, str | None]:
    """The recognizer of speech, or why there is none. Raises AsrError where the user wants one."""
    if wishes.asr == "none":
        return None, None
    missing = f"no faster-whisper model is here (undertone models pull {wishes.asr_model or DEFAULTS[0]})"
    try:
        found = locate(wishes.asr_model)
        if found is None and (wishes.asr == "whisper" or wishes.asr_model):
            raise AsrError(missing)
    except AsrError as error:
        if wishes.asr == "whisper" or wishes.asr_model:
            raise
        return None, str(error)
    return found, None if found else missing


def _spoken(language: str | None, recognizer: AsrModel) -> str:
    """The language that words are taken for, as `session.started` tells it. Raises UsageError."""
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    known = _LANGUAGE_CODES if recognizer.multilingual else ("en",)
    if language is not None and language not in known:
        raise UsageError(f"--language: {recognizer} knows {', '.join(sorted(known))}, not {language!r}")
    if not recognizer.multilingual:
        return "English only, it cannot tell other languages"
    return language or "language detected"


def _speakers(
    wishes: SessionSettings, source: Source, transcript: Transcript | None, recording: str
) -> tuple[str, list[Turn]]:
    """How speakers are told apart, and their turns if these are given."""
    if wishes.rttm is not None:
        turns = read_rttm(wishes.rttm, recording)
    else:
        turns = transcript.turns() if transcript is not None else []
    wish = wishes.speakers
    if wish == "auto":
        named = len(wishes.names) == source.channels == 1
        by_channel = source.split or named
        wish = "turns" if wishes.rttm else "channel" if by_channel else "turns" if turns else "cluster"
    if wish == "turns" and not turns:
        raise UsageError("--speakers turns needs --rttm, or a --transcript that names its speakers")
    if wish == "turns" and source.split:
        raise UsageError("--speakers turns wants one channel: add --channels mix")
    if wish == "channel" and not source.split and len(wishes.names) != 1:
        raise UsageError("--speakers channel wants several channels: add --channels split")
    if wish == "cluster" and source.split:
        raise UsageError("--speakers cluster wants one channel: add --channels mix")
    return wish, turns if wish == "turns" else []


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "session"
