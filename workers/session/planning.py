"""From the settings of a session to its plan: the speakers, the source of words, the models in use."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from model.device import DeviceChoice
from model.encoders import prosody, text
from model.encoders.asr import DEFAULTS, READ_BY_VOICE, SIZES, AsrError, AsrModel, locate
from model.fusion.checkpoint import identity, load_step, resolve, tuned_of
from model.fusion.config import FusionConfig
from stream.errors import readable
from stream.sources.base import Source
from stream.speech.transcript import Transcript, read_transcript
from stream.speech.turns import LeftOut, Turn, read_rttm
from workers.errors import UsageError, not_installed
from workers.session import masking
from workers.session.enrolment import outdated, voices
from workers.session.services import ModelRequirements, SessionPlan
from workers.session.settings import INTERIM_S, SessionSettings

AS_ASKED = {each.name for each in fields(SessionPlan)} & SessionSettings.model_fields.keys()
"""Settings that a plan has, too: taken over as they are, but for those that `plan_session` decides."""


@dataclass(frozen=True)
class Planned:
    """A plan and the models that it needs."""

    plan: SessionPlan
    needs: ModelRequirements


def recording_of(source: Source) -> str:
    """Name of a source in STM and RTTM files, which may speak of several recordings."""
    return "live" if source.live else Path(source.name).stem


def plan_session(settings: SessionSettings, source: Source) -> Planned:
    """Decide everything before anything starts.

    Raises UsageError, AnnotationError, CheckpointError, TextEncoderError or AsrError.
    """
    if settings.mask and not masking.available():
        raise UsageError(f"--mask: {not_installed('presidio_analyzer')}")
    recording = recording_of(source)
    transcript, turns, left_out = _annotations(settings, recording)
    speakers, turns = _speakers(settings, source, turns)
    config = load_step(settings.checkpoint).config
    text.folder(config.text.encoder)
    unknown = set(settings.modalities) - {*config.modalities, "visual"}
    wants_all = settings.modalities == SessionSettings.model_fields["modalities"].default
    if (unknown and not wants_all) or not settings.modalities:
        known = ", ".join((*config.modalities, "visual"))
        raise UsageError(f"--modalities: the checkpoint knows {known}, not {', '.join(unknown) or 'nothing'}")

    used, asr = _encoders(settings, config, transcript, source.video)
    enrolled, outdated_voices = {}, []
    if speakers == "cluster":
        enrolled = voices() if settings.enrolled else {}
        outdated_voices = outdated() if settings.enrolled else []
        known = f"; enrolled: {len(enrolled)}" if enrolled else ""
        people = f"; people: {settings.people}" if settings.people else ""
        used["speaker"] = f"voice embeddings (WeSpeaker), clustered{known}{people}"
    names = dict(settings.names)
    notes = [note for each in left_out if (note := each.note)] + _unused_names(settings, source, speakers)
    if outdated_voices:
        again = ", ".join(outdated_voices)
        notes.append(f"voices enrolled by an earlier version are not known any more, enroll them again: {again}")
    if settings.people is not None and speakers != "cluster":
        notes.append("--people not used: it is for people on one channel, who are told apart by voice")
    if transcript is not None:
        names = transcript.channel_names() | names
    decided: dict[str, Any] = {
        "session": settings.session or f"{_slug(recording)}-{secrets.token_hex(3)}",
        "speakers": speakers,
        "checkpoint": str(resolve(settings.checkpoint).resolve()),
        "checkpoint_identity": identity(settings.checkpoint),
        "names": names,
        "transcript": transcript,
        "interim": INTERIM_S if settings.interim is None else settings.interim,
        "enrolled": enrolled,
        "people_count": settings.people_count,
        "vad": _vad(settings, speakers),
    }
    plan = SessionPlan(
        **{name: getattr(settings, name) for name in AS_ASKED} | decided,
        sources=(readable(source.name),),
        channels=source.channels,
        encoders=used | {"vad": "given turns" if speakers == "turns" else decided["vad"]},
        turns=tuple(turns),
        notes=tuple(notes),
        lines_left_out=sum(each.count for each in left_out),
        live=source.live,
    )
    return Planned(plan, ModelRequirements(asr, faces=used["visual"] is not None, device=settings.device))


def usual_models(asr_model: str | None, device: DeviceChoice) -> tuple[str, ModelRequirements]:
    """The checkpoint, and the models besides, of a session with a camera for which nothing else is asked.

    asr_model, device: as in SessionSettings. Raises CheckpointError, AsrError.
    """
    settings = SessionSettings(asr_model=asr_model, device=device)
    recognizer, _ = _recognizer(settings)
    checkpoint = str(resolve(settings.checkpoint).resolve())
    return checkpoint, ModelRequirements(recognizer.reference if recognizer else None, faces=True, device=device)


def _encoders(
    settings: SessionSettings, config: FusionConfig, transcript: Transcript | None, video: bool
) -> tuple[dict[str, str | None], str | None]:
    """The encoder of each kind, as `session.started` names it, and the model for words that are recognized.

    Raises UsageError when nothing is left to analyse, and AsrError.
    """
    asr = missing = None
    used: dict[str, str | None] = dict.fromkeys(("asr", "text", "audio", "visual", "speaker"))
    if "text" in settings.modalities:
        tuned = tuned_of(settings.checkpoint)
        expert = f"; expert: {config.reader}, tuned" if tuned.reader else ""
        reads = f"; reads {', '.join(config.text.languages)}" if config.text.languages else ""
        used["text"] = f"{config.text}{', tuned' if tuned.adapter else ''}{reads}{expert}"
        if transcript is not None and settings.transcript is not None:
            used["asr"] = f"transcript {readable(settings.transcript.name)}"
        else:
            recognizer, missing = _recognizer(settings)
            if recognizer is not None:
                asr = recognizer.reference
                used["asr"] = f"{recognizer}, {_spoken(settings.language, recognizer)}"
    if "audio" in settings.modalities:
        parts = ["prosody (Praat)"] if prosody.available() and "audio" in config.modalities else []
        heard_by = "WeSpeaker, Whisper" if asr == READ_BY_VOICE else "WeSpeaker"
        parts += [f"expert: voice ({heard_by})"] if "voice" in config.experts else []
        used["audio"] = "; ".join(parts) or None
    if "visual" in settings.modalities and video:
        used["visual"] = f"faces (YuNet); {'expert' if 'face' in config.experts else 'shown only'}: mini-Xception"
    if used["asr"] is None and used["audio"] is None and used["visual"] is None:
        words = missing or "words are switched off (--asr, --modalities)"
        raise UsageError(f"nothing to analyse: {words}, and no voice or face encoder is available (--modalities)")
    return used, asr


def _recognizer(settings: SessionSettings) -> tuple[AsrModel | None, str | None]:
    """The recognizer of speech, or the reason why there is none. Raises AsrError where the user wants one."""
    if settings.asr == "none":
        return None, None
    missing = f"no faster-whisper model is here (undertone models pull {DEFAULTS[0]})"
    if settings.asr_model is not None:
        pull = f" (undertone models pull {settings.asr_model})" if settings.asr_model in SIZES else ""
        missing = f"faster-whisper {settings.asr_model} is not here{pull}"
    try:
        found = locate(settings.asr_model)
        if found is None and (settings.asr == "whisper" or settings.asr_model):
            raise AsrError(missing)
    except AsrError as error:
        if settings.asr == "whisper" or settings.asr_model:
            raise
        return None, str(error)
    return found, None if found else missing


def _spoken(language: str | None, recognizer: AsrModel) -> str:
    """The language that words are taken for, as `session.started` tells it. Raises UsageError."""
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    known = _LANGUAGE_CODES if recognizer.multilingual else ("en",)
    if language is not None and language not in known:
        codes = f"a code such as en, de, es or zh ({len(known)} languages)" if len(known) > 1 else "English alone (en)"
        raise UsageError(f"--language: {language!r} is none that {recognizer} knows: {codes}")
    if not recognizer.multilingual:
        return "English only, it cannot tell other languages"
    return language or "language detected"


def _annotations(settings: SessionSettings, recording: str) -> tuple[Transcript | None, list[Turn], list[LeftOut]]:
    """The given transcript, the given turns, and the lines that cannot be used. Raises AnnotationError."""
    transcript, turns, left_out = None, [], []
    if settings.transcript is not None:
        left_out.append(LeftOut(settings.transcript))
        transcript = read_transcript(settings.transcript, recording, left_out[-1])
        turns = transcript.turns()
    if settings.rttm is not None:
        left_out.append(LeftOut(settings.rttm))
        turns = read_rttm(settings.rttm, recording, left_out[-1])
    return transcript, turns, left_out


def _unused_names(settings: SessionSettings, source: Source, speakers: str) -> list[str]:
    """A line about names that are nobody's: names are of channels, in their order."""
    count = source.channels if speakers == "channel" else 0
    unused = [name for channel, name in sorted(settings.names.items()) if channel >= count]
    if not unused:
        return []
    if count:
        reason = f"there {'is 1 channel' if count == 1 else f'are {count} channels'} to name"
    else:
        told = {"turns": "the given turns say who speaks", "cluster": "people on one channel are told apart by voice"}
        reason = f"names are of channels, and {told[speakers]}"
    return [f"--names: {', '.join(unused)} not used: {reason}"]


def _speakers(settings: SessionSettings, source: Source, turns: list[Turn]) -> tuple[str, list[Turn]]:
    """A choice of `SpeakersBy` other than auto, and the turns that it needs. Raises UsageError."""
    by = settings.speakers
    if by == "auto":
        named = len(settings.names) == source.channels == 1
        by_channel = source.split or named
        by = "turns" if settings.rttm else "channel" if by_channel else "turns" if turns else "cluster"
    if by == "turns" and not turns:
        raise UsageError("--speakers turns needs --rttm, or a --transcript that names its speakers")
    if by == "turns" and source.split:
        raise UsageError("--speakers turns wants one channel: add --channels mix")
    if by == "channel" and not source.split and len(settings.names) != 1:
        raise UsageError("--speakers channel wants several channels: add --channels split")
    if by == "cluster" and source.split:
        raise UsageError("--speakers cluster wants one channel: add --channels mix")
    return by, turns if by == "turns" else []


def _vad(settings: SessionSettings, speakers: str) -> str:
    """A choice of `VoiceActivity` other than auto. Raises UsageError."""
    if settings.vad == "auto":
        return "pyannote" if speakers == "cluster" else "webrtc"
    if settings.vad == "pyannote" and speakers == "channel":
        raise UsageError(
            "--vad pyannote is for several people on one channel: choose webrtc or silero for a channel each"
        )
    return settings.vad


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "session"
