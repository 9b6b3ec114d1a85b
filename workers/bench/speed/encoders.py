"""`undertone bench encoders`: cost of an utterance of 3 s in each encoder on one core, and the encoder's size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from faster_whisper import utils

from model.encoders import prosody, text
from model.encoders.faces import FOLDER, MINI_XCEPTION, FaceReader
from model.encoders.prosody import Array
from model.encoders.silero import SileroVad
from model.encoders.sounds import WEIGHTS as SOUNDS
from model.encoders.sounds import SoundDetector
from model.encoders.speaker import WEIGHTS, SpeakerEncoder
from model.encoders.speaker_activity import SpeakerActivityNet
from model.encoders.text import Line
from model.encoders.voice import VoiceEncoder, speaker_states
from model.encoders.whisper import Whisper
from model.fusion.checkpoint import load_config, load_step, resolve, tuned_of
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller
from stream.sources.file import read_audio
from stream.speech.overlap_segmenter import OverlapSegmenter
from stream.speech.vad import FrameVad, WebRtcVad
from workers.bench import DEMO
from workers.bench.accuracy.asr import here
from workers.console.tables import Rows

RUNS = 15


def bench_encoders() -> Rows:
    """A row for each encoder: median milliseconds, MB of its files, and growth of the process by loading it."""
    import torch

    torch.set_num_threads(1)
    samples = read_audio(DEMO)[0, 4_800:52_800]
    rows: Rows = []
    for name, modality, files, build in _encoders():
        before = _resident()
        work = build()
        work(samples)
        grown = _resident() - before
        taken = []
        for _ in range(RUNS):
            started = time.perf_counter()
            work(samples)
            taken.append(time.perf_counter() - started)
        size = sum(f.stat().st_size for path in files for f in (path, *path.rglob("*")) if f.is_file())
        rows.append(
            {
                "encoder": name,
                "modality": modality,
                "ms": round(1000 * float(np.median(taken)), 1),
                "MB_on_disk": round(size / 1e6, 1),
                "MB_in_memory": round(grown / 1e6),
            }
        )
    return rows


def _resident() -> int:
    """Resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


Work = Callable[[Array], object]


def _encoders() -> Iterator[tuple[str, str, list[Path], Callable[[], Work]]]:
    """(name, modality, files, constructor of a function of samples [n] float32 at 16 kHz)."""
    assets, encoders = Path(utils.__file__).parent / "assets", Path(text.__file__).parent / "weights"
    yield "WebRTC VAD", "speech", [], partial(_frames, WebRtcVad)
    yield "Silero VAD", "speech", [assets / "silero_vad_v6.onnx"], partial(_frames, SileroVad)
    yield "pyannote segmentation, 6 windows", "speech", [WEIGHTS / "segmentation.onnx"], _windows
    config, tuned = load_config("meld"), tuned_of("meld")
    other, folder = load_config("emorynlp").reader, tuned_of("emorynlp").reader
    lines = [Line("a", "I never said that we should meet on Monday"), Line("b", "but you did and I wrote it down")]

    def texts() -> Work:
        encode = text.TextEncoder(config.text, tuned.adapter)
        return lambda _: encode([lines])

    def reader() -> Work:
        assert other is not None and folder is not None
        read = text.ContextReader(other, folder)
        return lambda _: read([6 * lines])

    yield "MiniLM-L6, tuned", "text", [Path(text.folder())], texts
    yield "MiniLM-L6, reading 12 utterances (emorynlp)", "text", [folder] if folder else [], reader
    if prosody.available():
        yield "prosody (Praat)", "audio", [], lambda: prosody.measure
    yield "voice, on its own", "audio", [encoders / "voice"], _voice
    yield "YAMNet (laughter, crying, sighs)", "audio", [SOUNDS], SoundDetector
    yield "WeSpeaker speaker embedding", "speaker", [WEIGHTS / "embedding.onnx"], SpeakerEncoder
    yield "fusion-GCN, one step", "graph", [resolve("meld") / "model.safetensors"], _graph
    for model in here():
        yield str(model), "ASR", [Path(model.folder)], partial(_words, model.folder)
    yield "YuNet, 30 pictures", "visual", [FOLDER / "yunet_n_320_320.onnx"], partial(_pictures, False)
    yield "mini-Xception, 30 faces", "visual", [MINI_XCEPTION.file], partial(_pictures, True)


def _voice() -> Work:
    judge, speaker = VoiceEncoder(), SpeakerEncoder()

    def work(samples: Array) -> object:
        states = speaker_states(speaker, samples)
        return None if states is None else judge(states)

    return work


def _frames(vad: Callable[[], FrameVad]) -> Work:
    detect = vad()
    return lambda samples: [
        detect(frame) for frame in samples[: 48_000 // detect.size * detect.size].reshape(-1, detect.size)
    ]


def _windows() -> Work:
    return OverlapSegmenter(SpeakerActivityNet()).push


def _words(folder: str) -> Work:
    recognize = Whisper(folder)
    return lambda samples: recognize([samples], "en")


def _graph() -> Work:
    labeller = IncrementalLabeller(load_step("meld"))
    state, rng = labeller.new_state(), np.random.default_rng(0)
    inputs = labeller.config.inputs
    utterance = UtteranceFeatures(
        {name: rng.normal(size=width).astype(np.float32) for name, width in inputs.items()}, 0
    )
    return lambda _: labeller.step([state], [utterance])


def _pictures(expression: bool) -> Work:
    faces, picture = FaceReader(), np.random.default_rng(0).integers(0, 255, (270, 480, 3)).astype(np.uint8)
    box = np.array([100, 50, 120, 150, 130, 100, 190, 100, 160, 130, 140, 160, 180, 160, 0.9], np.float32)
    if expression:
        return lambda _: [faces.express(picture, box) for _ in range(30)]
    return lambda _: [faces.detect(picture) for _ in range(30)]
