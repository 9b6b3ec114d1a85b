"""`undertone fit-experts`: weights of the voice and face experts in a checkpoint (`model.fusion.experts`).

The weight of the voice is fitted on conversations constructed of RAVDESS clips, with posteriors of a network that was
not trained on their actor, as recorded and over a line, with noise and in a room; the words are RAVDESS' two sentences,
which do not depend on the emotion. The weight of the face is fitted on the few pictures of a folder, each degraded as
by a webcam, beside the average posterior of the graph, with some pictures held out at a time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from model.encoders import prosody
from model.encoders.face_observation import EXPRESSIONS
from model.encoders.faces import FaceReader
from model.encoders.text import ContextReader, Line, TextEncoder
from model.fusion.checkpoint import EXPERTS, CheckpointError, load_checkpoint, resolve, tuned_of
from model.fusion.dialogue import SpeakerMemory
from model.fusion.experts import fit_experts
from model.fusion.incremental import IncrementalLabeller
from model.fusion.step_network import step_of
from model.labels import RAVDESS, translate
from model.metrics import uar
from model.progress import Progress
from model.training.voice_train import Clip
from workers.research.compose import SENTENCES, pictures, worsened
from workers.research.train_voice import CONDITIONS, under

TURNS_PER_CONVERSATION = 12
Floats = np.ndarray[Any, np.dtype[np.float32]]


def fit_media_experts(
    checkpoint: str, voice: Path, clips: list[Clip], faces: Path | None, progress: Progress
) -> dict[str, Any]:
    """Fit the experts, write experts.json into the checkpoint's folder, and return its content.

    voice: output folder of `train-voice`, with folds/held_out.npz; faces: folder of pictures, None: without that
    expert. Raises CheckpointError and MediaError.
    """
    try:
        held_out = np.load(voice / "folds" / "held_out.npz")
    except OSError:
        raise CheckpointError(f"{voice}: no folds/held_out.npz; give the folder that train-voice wrote") from None
    config = load_checkpoint(checkpoint).config
    if translate(RAVDESS, np.ones(len(RAVDESS), np.float32), config.emotions) is None:
        raise CheckpointError(f"{checkpoint}: its emotions are not those of voice and face ({', '.join(RAVDESS)})")
    known = {
        (str(name), int(actor)): row
        for row, (name, actor) in enumerate(zip(held_out["name"], held_out["actor"], strict=True))
    }
    order = [(clip, known[clip.name, clip.actor]) for clip in clips if (clip.name, clip.actor) in known]
    graph, truth, dialogue, posteriors = _converse(checkpoint, order, held_out, progress)
    weights, priors = fit_experts(graph, posteriors[:, None], truth, dialogue, joining=True)
    fitted: dict[str, Any] = {"voice": _entry(weights, priors, config.emotions)}
    fitted["voice"]["fitted_on"] = f"{len(truth)} utterances of constructed conversations, {len(clips)} RAVDESS clips"
    pooled = np.log(np.maximum(graph, 1e-9)) + weights[0] * np.log(np.maximum(posteriors, 1e-6) / priors[0])
    fitted["voice"]["uar_without"] = round(100 * uar(truth, graph.argmax(1)), 1)
    fitted["voice"]["uar_with"] = round(100 * uar(truth, pooled.argmax(1)), 1)
    if faces is not None:
        seen, wore, picture = _faces(faces, config.emotions)
        around = graph.mean(0, keepdims=True).repeat(len(seen), 0)
        weights, priors = fit_experts(around, seen[:, None], wore, picture, joining=True)
        uniform = np.full((1, len(config.emotions)), 1 / len(config.emotions))  # seven pictures give no prior
        fitted["face"] = _entry(weights, uniform, config.emotions)
        fitted["face"]["fitted_on"] = f"{len(seen)} views of {len(set(picture.tolist()))} pictures"
    path = resolve(checkpoint) / EXPERTS
    path.write_text(json.dumps(fitted, indent=2) + "\n", encoding="utf-8")
    return fitted


def _entry(weights: Any, priors: Any, emotions: tuple[str, ...]) -> dict[str, Any]:
    prior = {emotion: round(float(share), 4) for emotion, share in zip(emotions, priors[0], strict=True)}
    return {"weight": round(float(weights[0]), 3), "prior": prior}


def _converse(
    checkpoint: str, clips: list[tuple[Clip, int]], held_out: Any, progress: Progress
) -> tuple[Any, Any, Any, Any]:
    """Conversations of two actors: the network's probabilities [n, C], truth [n], conversation [n], voice posteriors
    [n, C]."""
    model, tuned = load_checkpoint(checkpoint), tuned_of(checkpoint)
    labeller, config = IncrementalLabeller(step_of(model)), model.config
    encode = TextEncoder(config.text, tuned.adapter)
    read = ContextReader(config.reader, tuned.reader) if config.reader and tuned.reader else None
    rng = np.random.default_rng(0)
    actors = sorted({clip.actor for clip, _ in clips})
    graph, truth, dialogue, posteriors = [], [], [], []
    number = done = 0
    for pair in zip(actors[::2], actors[1::2], strict=False):
        own_clips = [clips[n] for n in rng.permutation(len(clips)) if clips[n][0].actor in pair]
        for start in range(0, len(own_clips), TURNS_PER_CONVERSATION):
            state, memory, lines = labeller.new_state(), SpeakerMemory(config.prosody, config.window), []
            for clip, row in own_clips[start : start + TURNS_PER_CONVERSATION]:
                condition = CONDITIONS[int(rng.integers(len(CONDITIONS)))]
                lines.append(Line(f"actor {clip.actor}", SENTENCES[int(clip.name.split("-")[4])], recognized=True))
                context = lines[-13:]
                values = prosody.measure(under(condition, clip, row)) if prosody.available() else None
                expert_posteriors = {} if read is None else {"reader": read([context])[0]}
                utterance = memory.add(lines[-1].speaker, {"text": encode([context])[0]}, values, expert_posteriors)
                graph.append(list(labeller.step([state], [utterance])[0].prediction.emotion.values()))
                posteriors.append(translate(RAVDESS, held_out[condition][row], config.emotions))
                exact = translate(RAVDESS, np.eye(len(RAVDESS), dtype=np.float32)[clip.emotion], config.emotions)
                assert exact is not None
                truth.append(int(exact.argmax()))
                dialogue.append(number)
                done += 1
                progress.step("constructed conversations", done, len(clips))
            number += 1
    return np.array(graph), np.array(truth), np.array(dialogue), np.array(posteriors, np.float64)


def _faces(folder: Path, emotions: tuple[str, ...]) -> tuple[Any, Any, Any]:
    """Degraded views of pictures: posteriors [n, C], truth [n], number of the picture [n]."""
    look = FaceReader()
    seen, wore, picture = [], [], []
    for number, (name, image) in enumerate(pictures(folder)):
        exact = translate(EXPRESSIONS, np.eye(7, dtype=np.float32)[EXPRESSIONS.index(name)], emotions)
        assert exact is not None
        for _, view in worsened(image):
            observation = look([view], [0.0], np.zeros(0, np.float32), 0.0)
            if observation.expression is not None:
                seen.append(translate(EXPRESSIONS, observation.expression, emotions))
                wore.append(int(exact.argmax()))
                picture.append(number)
    return np.array(seen, np.float64), np.array(wore), np.array(picture)
