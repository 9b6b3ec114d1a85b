"""Words as they are really recognized: what a recognizer's errors cost a shipped checkpoint.

The lines of dev are said by espeak-ng, a voice for each speaker, as they are or in noise over a telephone line, and
recognized by Whisper. Its errors are those of a recognizer (words of like sound, lost short words, none in loud noise),
where `model.training.noise` draws words at random. A synthesizer's voice is clear and dull; people are neither.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.data.tables import Dialogue, Row
from model.encoders.asr import load
from model.encoders.transcription import RATE
from model.errors import InputError
from model.evaluation.lab import Lab, score_dev, table
from model.fusion.checkpoint import networks_of, tuned_of
from model.metrics import plain_words, word_error_rate
from model.progress import Progress
from model.training.prepared import cache_folder, prepare
from model.training.voice_train import filtered, with_noise

Array = NDArray[np.float32]

CORPORA = ("meld", "emorynlp")
MODELS = ("base", "tiny.en")
VOICES = ("en-us", "en-us+m3", "en-us+f5", "en-gb", "en-gb+f3")  # the clearest of a dozen
CONDITIONS = {"as said": None, "telephone, noise 15 dB": 15.0}
"""Noise below the voice in dB, over a telephone line; None: neither."""
AS_WRITTEN, FULL_STOPS = "as written", "as written, full stops for ! and …"
WRITINGS: dict[str, Callable[[str], str]] = {
    AS_WRITTEN: str,
    FULL_STOPS: lambda text: re.sub(r"[!…]+|\.\.+", ".", text),
    "as written, without punctuation": plain_words,
}
"""The transcript, and its own words with less of its punctuation, of which a recognizer writes little: the network is
told that a recognizer wrote them."""


class SynthesizerMissing(InputError):
    """espeak-ng is not on this machine."""


def say(text: str, speaker: str) -> Array:
    """[n] float32 at 16 kHz: a line in the synthesizer's voice for this speaker. Raises SynthesizerMissing."""
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    synthesizer, voice = shutil.which("espeak-ng"), VOICES[crc32(speaker.encode()) % len(VOICES)]
    if synthesizer is None:
        raise SynthesizerMissing("espeak-ng says the lines of this study: apt-get install espeak-ng")
    with TemporaryDirectory() as folder:
        file = Path(folder, "said.wav")
        subprocess.run([synthesizer, "-v", voice, "--stdin", "-w", file], input=text.encode(), check=True)
        rate, samples = wavfile.read(file)
    said: Array = (resample_poly(samples.astype(np.float64), RATE, rate) / 32_768).astype(np.float32)
    return said


def recognized(dialogues: Sequence[Dialogue], model: str, noise_db: float | None, progress: Progress) -> list[str]:
    """The words that a Whisper model recognizes, an utterance each; noise_db: as in `CONDITIONS`."""
    asr, words = load(model), []
    for number, dialogue in enumerate(dialogues):
        for row in dialogue.rows:
            samples = say(row.text, row.speaker)
            if noise_db is not None:
                rng = np.random.default_rng(crc32(row.text.encode()))
                samples = with_noise(rng, filtered(samples, telephone=True), noise_db)
            words.append(asr([samples], "en")[0].text)
        progress.step(f"dialogues said, and recognized by {model}", number + 1, len(dialogues))
    return words


def as_recognized(lab: Lab, model: str, condition: str, training: bool = False) -> list[str]:
    """The words of dev, or of the training data, that are recognized, an utterance each; they are kept in the cache."""
    written, split = (lab.pair[1], "-train") if training else (lab.pair[2], "")
    file = cache_folder() / f"recognized-{lab.corpus}{split}-{model}-{condition}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(recognized(written, model, CONDITIONS[condition], lab.progress)), encoding="utf-8")
    words: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return words


def in_place(dialogues: Sequence[Dialogue], words: Sequence[str], recognized: bool) -> list[Dialogue]:
    """The dialogues with other words, an utterance each."""
    texts = iter(words)

    def other(row: Row) -> Row:
        return replace(row, text=next(texts), recognized=recognized)

    return [replace(dialogue, rows=[other(row) for row in dialogue.rows]) for dialogue in dialogues]


def recognized_words(lab: Lab) -> str:
    """Word error rate, and scores of the shipped networks with the words recognized, in percent. Returns a Markdown
    table."""
    cells: dict[str, list[dict[str, float]]] = {}
    for corpus in CORPORA:
        cells |= _of_corpus(replace(lab, corpus=corpus, _prepared={}))
    return table(
        cells,
        {"wer": "WER", "accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1", "ece": "ECE"},
    )


def _of_corpus(lab: Lab) -> dict[str, list[dict[str, float]]]:
    labels, _, written = lab.pair
    networks, tuned = networks_of(lab.corpus), tuned_of(lab.corpus)
    transcript = [row.text for dialogue in written for row in dialogue.rows]

    def score(model: str | None, condition: str, seed: int) -> dict[str, float]:
        if model is None:
            words = [WRITINGS[condition](text) for text in transcript]
        else:
            words = as_recognized(lab, model, condition)
        dialogues = in_place(written, words, recognized=condition != AS_WRITTEN)
        dev = prepare(dialogues, labels, networks[seed].config, tuned, lab.progress)
        return score_dev(networks[seed], dev) | {"wer": 100 * word_error_rate(transcript, words)}

    of_models = [(model, condition) for condition in CONDITIONS for model in MODELS]
    cells, kinds = {}, [*((None, writing) for writing in WRITINGS), *of_models]
    for model, condition in kinds:
        name = f"{lab.corpus}, {condition}" + (f", {model}" if model else "")
        cells[name] = lab.measure("recognized-words", name, partial(score, model, condition), len(networks))
    return cells
