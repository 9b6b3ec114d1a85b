"""`undertone bench voice`: the voice encoder on RAVDESS clips, and linear probes on other embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from model.encoders.asr import READ_BY_VOICE, locate
from model.encoders.prosody import Array
from model.encoders.speaker import SpeakerEncoder
from model.encoders.voice import ALONE, WITH_WORDS, VoiceEncoder, speaker_states, trim
from model.encoders.whisper import Whisper
from model.labels import RAVDESS
from model.training.voice_train import INPUTS, Clip
from workers.bench.accuracy.data import comparison_net, ravdess
from workers.console.tables import Rows
from workers.research.train_voice import CONDITIONS, FOLDS, scores_of, under


def bench_voice(folder: Path, encoder: Path | None, probes: bool) -> Rows:
    """Rows of UAR under each condition; for actors of the training data, the figures of the cross-validation.

    Raises MediaError.
    """
    voice = VoiceEncoder(encoder) if encoder else VoiceEncoder()
    clips = ravdess(folder)
    truth, actor = np.array([c.emotion for c in clips]), np.array([c.actor for c in clips])
    known = sorted(set(actor.tolist()) & set(voice.card["actors"]))
    rows: Rows = []
    if known:
        scores = voice.card["cross_validation"]
        group = f"cross-validation, {FOLDS} folds of whole actors ({len(voice.card['actors'])} actors)"
        rows += [_row(name, group, condition, scores[name][condition]) for name in INPUTS for condition in CONDITIONS]
    unseen = np.array([n for n in range(len(clips)) if int(actor[n]) not in known], dtype=int)
    if len(unseen):
        group = f"{len(unseen)} clips of {len(set(actor[unseen]))} unseen actors"
        speaker, found = SpeakerEncoder(), locate(READ_BY_VOICE)
        whisper = None if found is None else Whisper(found.folder)
        for condition in CONDITIONS:
            sounds = [under(condition, clips[n], int(n)) for n in unseen]
            states = [speaker_states(speaker, samples) for samples in sounds]
            words = [None if whisper is None else whisper.states(samples) for samples in sounds]
            for name in INPUTS if whisper is not None else (ALONE,):
                of_words = words if name == WITH_WORDS else [None] * len(words)
                posterior = np.stack([_judged(voice, *each) for each in zip(states, of_words, strict=True)])
                rows.append(_row(name, group, condition, scores_of(posterior, truth[unseen], actor[unseen])))
    if probes:
        rows += [
            _row(f"linear probe on {name}", f"cross-validation, {FOLDS} folds of whole actors", CONDITIONS[0],
                 scores_of(_probe(features, truth, actor), truth, actor))
            for name, features in _embeddings(clips)
        ]  # fmt: skip
    return rows


def _judged(voice: VoiceEncoder, states: Array | None, of_words: Array | None) -> Array:
    """[8] float32; all the same for a clip that is silent or too short."""
    expression = None if states is None else voice(states, of_words).expression
    return np.full(len(RAVDESS), 1 / len(RAVDESS), np.float32) if expression is None else expression


def _row(encoder: str, clips: str, condition: str, scores: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"encoder": encoder, "clips": clips, "condition": condition}
    for classes in ("8", "7"):
        low, high = scores[f"uar_{classes}_95"]
        row[f"UAR, {classes} classes"] = f"{scores[f'uar_{classes}']} ({low} … {high})"
    if "arousal_auc" in scores:
        row["AUC of arousal"] = scores["arousal_auc"]
    return row


def _probe(features: Array, truth: Any, actor: Any) -> Array:
    """[n, 8] float32 posteriors of logistic regressions on features [n, D], cross-validated over actors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    actors = sorted(set(actor.tolist()))
    folds = np.array([actors.index(a) * FOLDS // len(actors) for a in actor])
    posterior = np.zeros((len(truth), len(RAVDESS)), np.float32)
    for fold in range(FOLDS):
        held = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=500))
        model.fit(features[~held], truth[~held])
        posterior[np.ix_(held, model.classes_)] = model.predict_proba(features[held])
    return posterior


def _embeddings(clips: list[Clip]) -> list[tuple[str, Array]]:
    """(name, features [n, D] float32) of each embedding on this machine: mean and deviation over time."""
    trimmed = [trim(clip.samples) for clip in clips]
    trimmed = [(0.5 * samples / max(float(np.abs(samples).max()), 1e-6)).astype(np.float32) for samples in trimmed]
    speaker = SpeakerEncoder()
    found = [("WeSpeaker (speaker)", np.stack([speaker(samples) for samples in trimmed]))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def network(name: str, file: str) -> onnxruntime.InferenceSession | None:
        path = comparison_net(name, file)
        return path and onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    yamnet = network("yamnet", "yamnet.onnx")
    if yamnet:
        found.append(("YAMNet", np.stack([_yamnet(yamnet, samples) for samples in trimmed])))
    mel, embed = (network("speech_embedding", f) for f in ("melspectrogram.onnx", "embedding_model.onnx"))
    if mel and embed:
        found.append(("Google speech embedding", np.stack([_speech(mel, embed, samples) for samples in trimmed])))
    path = comparison_net("dvector", "dvector.onnx")
    if path:
        from workers.bench.accuracy.speakers import DVector

        dvector = DVector(path)
        found.append(("d-vector (speaker)", np.stack([dvector(samples) for samples in trimmed])))
    return found


def _yamnet(network: Any, samples: Array) -> Array:
    padded = np.pad(samples, (0, max(0, 15_600 - len(samples))))
    windows = [padded[start : start + 15_600][None] for start in range(0, len(padded) - 15_599, 3_900)]
    return _over_time(np.stack([network.run(["embedding"], {"waveform": window})[0][0] for window in windows]))


def _speech(mel: Any, embed: Any, samples: Array) -> Array:
    padded = np.pad(samples, (0, max(0, 16_000 - len(samples)))) * 32_767
    picture = mel.run(None, {"input": padded[None].astype(np.float32)})[0].reshape(-1, 32) / 10 + 2
    windows = np.stack([picture[start : start + 76] for start in range(0, len(picture) - 75, 8)])[..., None]
    return _over_time(embed.run(None, {"input_1": windows.astype(np.float32)})[0].reshape(len(windows), -1))


def _over_time(values: Array) -> Array:
    return np.concatenate([values.mean(0), values.std(0)])
