"""From the options of a command to a session plan: who is a speaker, where words come from, what is switched on."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from model import prosody
from model.asr import choose
from model.checkpoint import load_checkpoint, resolve, tuned_of
from stream.bus import Keys
from stream.media import FileSource
from stream.microphone import MicrophoneSource
from stream.transcript import Transcript, read_transcript
from stream.turns import Turn, read_rttm
from workers.session import SessionPlan


class UsageError(Exception):
    """Options that contradict each other or what is there; the message says what to do."""


@dataclass(frozen=True)
class Wishes:
    """The options shared by `replay` and `live`, as given."""

    checkpoint: str = "meld"
    asr: str = "auto"
    asr_model: str | None = None
    vad: str = "webrtc"
    modalities: tuple[str, ...] = ("text", "audio")
    names: tuple[str, ...] = ()
    session: str | None = None
    consent: str | None = None
    redact: bool = False
    transcript: Path | None = None
    rttm: Path | None = None
    speakers: str = "auto"


@dataclass(frozen=True)
class Planned:
    """A plan, and the recognizer of speech that it needs (kind, model folder), if any."""

    plan: SessionPlan
    asr: tuple[str, str | None] | None


def plan_session(wishes: Wishes, source: FileSource | MicrophoneSource) -> Planned:
    """Decide everything before anything starts.

    Raises UsageError, AnnotationError, CheckpointError or AsrError.
    """
    recording = source.path.stem if isinstance(source, FileSource) else "live"
    where = str(source.path) if isinstance(source, FileSource) else f"microphone: {source.name}"
    transcript = read_transcript(wishes.transcript, recording) if wishes.transcript else None
    speakers, turns = _speakers(wishes, source, transcript, recording)
    model = load_checkpoint(wishes.checkpoint)
    unknown = set(wishes.modalities) - set(model.config.modalities)
    if unknown or not wishes.modalities:
        known = ", ".join(model.config.modalities)
        raise UsageError(f"--modalities: the checkpoint knows {known}, not {', '.join(unknown) or 'nothing'}")

    asr = None
    used: dict[str, str | None] = dict.fromkeys(("asr", "text", "audio", "visual"))
    if "text" in wishes.modalities:
        tuned = tuned_of(wishes.checkpoint)
        expert = f"; expert: {model.config.reader}, tuned" if tuned.reader else ""
        used["text"] = f"{model.config.text}{', tuned' if tuned.adapter else ''}{expert}"
        if transcript is not None:
            used["asr"] = f"transcript {wishes.transcript}"
        else:
            kind, folder = choose(wishes.asr, wishes.asr_model)
            if kind is not None:
                asr = (kind, folder)
                used["asr"] = f"faster-whisper {Path(folder).name}" if folder else kind
    if "audio" in wishes.modalities and prosody.available():
        used["audio"] = "prosody (Praat)"
    if used["asr"] is None and used["audio"] is None:
        raise UsageError(
            "nothing to label by: neither words (--asr) nor prosody (pip install praat-parselmouth) are to be had"
        )
    names = dict(enumerate(wishes.names))
    if transcript is not None:
        names = transcript.channel_names() | names
    session = wishes.session or f"{_slug(recording)}-{secrets.token_hex(3)}"
    try:
        Keys(session)
    except ValueError as error:
        raise UsageError(f"--session: {error}") from None
    plan = SessionPlan(
        session=session,
        sources=(where,),
        channels=source.channels,
        speakers=speakers,
        modalities=wishes.modalities,
        encoders=used | {"vad": "given turns" if speakers == "turns" else wishes.vad},
        checkpoint=str(resolve(wishes.checkpoint).resolve()),
        names=names,
        turns=tuple(turns),
        transcript=transcript,
        vad=wishes.vad,
        redact=wishes.redact,
        consent=wishes.consent,
    )
    return Planned(plan, asr)


def _speakers(
    wishes: Wishes, source: FileSource | MicrophoneSource, transcript: Transcript | None, recording: str
) -> tuple[str, list[Turn]]:
    """How speakers are told apart, and their turns if these are given."""
    if wishes.rttm is not None:
        turns = read_rttm(wishes.rttm, recording)
    else:
        turns = transcript.turns() if transcript is not None else []
    wish = wishes.speakers
    if wish == "auto":
        wish = "turns" if wishes.rttm else "channel" if source.split else "turns" if turns else "cluster"
    if wish == "turns" and not turns:
        raise UsageError("--speakers turns needs --rttm, or a --transcript that names its speakers")
    if wish == "turns" and source.split:
        raise UsageError("--speakers turns wants one channel: add --channels mix")
    if wish == "channel" and not source.split:
        raise UsageError("--speakers channel wants several channels: add --channels split")
    if wish == "cluster" and source.split:
        raise UsageError("--speakers cluster wants one channel: add --channels mix")
    return wish, turns if wish == "turns" else []


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "session"
