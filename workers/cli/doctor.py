"""`undertone doctor`: what is here, what will be used, what is missing and how to get it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from model.device import without_cuda
from model.encoders import prosody
from model.encoders.asr import DEFAULTS, AsrError, locate
from model.fusion.checkpoint import CheckpointError, load_checkpoint, load_config
from stream.bus.connection import BusError, check, public
from stream.bus.own_server import data_folder, running
from stream.bus.server import NO_SERVER, server_binary, server_version
from stream.errors import MediaError, one_line
from stream.sources.microphone import input_devices
from workers.console.terminal import libraries_log
from workers.session.enrolment import EnrolmentError, voices

NO_MICROPHONE = (
    "no input device: plug one in, or start PulseAudio or PipeWire (in a container: pass its socket or /dev/snd on); "
    "recordings, streams and the page's own microphone need none"
)
NO_CAMERA = "no /dev/video*: plug one in (in a container: --device /dev/video0); films and streams need none"


@dataclass(frozen=True)
class Finding:
    """One part, whether it works, what was found or what to do."""

    part: str
    state: str
    """"ok", "missing" (something else will be used) or "broken" (nothing works without it)."""
    detail: str


def examine(redis: str | None, checkpoint: str) -> list[Finding]:
    """Look at everything a session could use; the details are one line each."""
    findings = [
        Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"),
        *(_package(name) for name in ("torch", "ray", "redis", "av", "faster-whisper", "transformers")),
        _gpu(),
        _redis(redis),
        Finding("Ray's log", "ok", f"{libraries_log()}: what Ray's own processes have to say"),
        _checkpoint(checkpoint),
        _asr(),
        _text(),
        _prosody(),
        _expert("voice", "states of WeSpeaker and Whisper base", checkpoint),
        _expert("face", "YuNet and mini-Xception", checkpoint),
        _enrolled(),
        _microphone(),
        _cameras(),
    ]
    return [replace(finding, detail=one_line(finding.detail)) for finding in findings]


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "broken", f"pip install {name}")


def _gpu() -> Finding:
    missing = without_cuda()
    if missing is None:
        import torch

        if torch.cuda.is_available():
            memory = torch.cuda.get_device_properties(0).total_memory / 2**30
            return Finding("GPU", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, used (--device cpu: not)")
        missing = "PyTorch cannot use the GPU that is here; nvidia-smi may say why"
    return Finding("GPU", "missing", f"{missing}; models run on the CPU")


def _redis(given: str | None) -> Finding:
    url = given or os.environ.get("UNDERTONE_REDIS")
    if url:
        try:
            asyncio.run(check(url))
            return Finding("Redis", "ok", public(url))
        except BusError as error:
            return Finding("Redis", "broken", str(error))
    if found := running():
        return Finding("Redis", "ok", f"your own, at {public(found)}, until `undertone down`; data in {data_folder()}")
    if binary := server_binary():
        version = ".".join(map(str, server_version(binary)))
        return Finding("Redis", "ok", f"your own is started when needed: {binary} {version}; data in {data_folder()}")
    return Finding("Redis", "broken", NO_SERVER)


def _checkpoint(name: str) -> Finding:
    try:
        config = load_checkpoint(name).config
        return Finding("checkpoint", "ok", f"{name}: {', '.join(config.emotions)} from {', '.join(config.modalities)}")
    except CheckpointError as error:
        return Finding("checkpoint", "broken", str(error))


def _asr() -> Finding:
    try:
        found = locate()
    except AsrError as error:
        return Finding("ASR", "missing", str(error))
    if found is None:
        return Finding("ASR", "missing", f"no faster-whisper model here: undertone models pull {DEFAULTS[0]}; no words")
    languages = "99 languages" if found.multilingual else "English only"
    return Finding("ASR", "ok", f"{found}, {languages}, from {found.origin}")


def _text() -> Finding:
    from model.encoders import text

    try:
        return Finding("text", "ok", f"{text.TextConfig()} in {text.folder()}")
    except text.TextEncoderError as error:
        return Finding("text", "broken", str(error))


def _prosody() -> Finding:
    if prosody.available():
        return Finding("prosody", "ok", f"praat-parselmouth {importlib.metadata.version('praat-parselmouth')} (GPL-3)")
    return Finding("prosody", "missing", "pip install praat-parselmouth (GPL-3); until then audio counts as missing")


def _expert(name: str, encoder: str, checkpoint: str) -> Finding:
    try:
        joined = name in load_config(checkpoint).experts
    except CheckpointError as error:
        return Finding(name, "broken", str(error))
    if joined:
        return Finding(name, "ok", f"{encoder}, joined as an expert")
    return Finding(name, "missing", f"{encoder}; checkpoint {checkpoint} has no weight for it (undertone fit-experts)")


def _enrolled() -> Finding:
    try:
        return Finding("speakers", "ok", f"pyannote and WeSpeaker; enrolled: {', '.join(voices()) or 'nobody'}")
    except EnrolmentError as error:
        return Finding("speakers", "broken", str(error))


def _cameras() -> Finding:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    return Finding("camera", "ok" if devices else "missing", ", ".join(devices) or NO_CAMERA)


def _microphone() -> Finding:
    try:
        devices = input_devices()
    except MediaError as error:
        return Finding("microphone", "missing", str(error))
    return Finding("microphone", "ok" if devices else "missing", "; ".join(devices) or NO_MICROPHONE)


def findings_table(findings: list[Finding]) -> Table:
    """The findings, for a person."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    for finding in findings:
        table.add_row(finding.part, f"[{colours[finding.state]}]{finding.state}[/]", Text(finding.detail))
    return table
