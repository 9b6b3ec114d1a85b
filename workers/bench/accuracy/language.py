"""`undertone bench language`: known languages that are rejected, and unknown languages that are accepted.

Evidence is accumulated for each speaker, as in sessions. Speech is real (LibriSpeech, RAVDESS, a call, meetings) or
synthesized by espeak-ng; texts are those of the conversation tables, and the sentences that espeak-ng speaks.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from model.encoders.asr import locate
from model.encoders.spoken_language import Belief, languages_of
from model.encoders.transcription import Samples
from model.encoders.whisper import Whisper
from model.progress import Progress
from stream.block import RATE
from stream.sources.file import read_audio
from stream.speech.vad import WebRtcVad
from workers.bench.accuracy.speech import utterances
from workers.console.tables import Rows

KNOWN = ("en",)
RAVDESS_CLIPS = 300  # of RAVDESS
SEED = 2
# Not those with which the thresholds of model.encoders.spoken_language were chosen.
SENTENCES = {
    "en": (
        "Hello.", "Come in.", "Did you call him?", "I think so.", "The shop closes at eight.", "Never mind.",
        "I left my keys on the kitchen table this morning.", "You look tired today.", "We could walk home together.",
        "If it rains tomorrow, then we will stay at home and watch the film that you told me about.",
    ),
    "de": (
        "Hallo.", "Komm herein.", "Hast du ihn angerufen?", "Ich glaube schon.", "Der Laden schließt um acht.",
        "Macht nichts.",
        "Ich habe heute Morgen meine Schlüssel auf dem Küchentisch liegen lassen.", "Du siehst heute müde aus.",
        "Wir könnten zusammen nach Hause gehen.",
        "Wenn es morgen regnet, dann bleiben wir zu Hause und sehen den Film, von dem du mir erzählt hast.",
    ),
    "fr": (
        "Bonjour.", "Entre donc.", "Tu l'as appelé ?", "Je crois que oui.", "Le magasin ferme à huit heures.",
        "Ce n'est rien.",
        "J'ai laissé mes clés sur la table de la cuisine ce matin.", "Tu as l'air fatigué aujourd'hui.",
        "Nous pourrions rentrer ensemble à pied.",
        "S'il pleut demain, nous resterons à la maison et nous regarderons le film dont tu m'as parlé.",
    ),
    "es": (
        "Hola.", "Pasa.", "¿Lo has llamado?", "Creo que sí.", "La tienda cierra a las ocho.", "No importa.",
        "Esta mañana dejé mis llaves en la mesa de la cocina.", "Hoy pareces cansado.",
        "Podríamos volver a casa juntos.",
        "Si llueve mañana, nos quedaremos en casa y veremos la película de la que me hablaste.",
    ),
}  # fmt: skip
VOICES = ("+m3", "+f2")  # of espeak-ng, each a speaker


def bench_language(data: Path, progress: Progress) -> Rows:
    """A row for each source, language and length: number of utterances, and of those wrongly rejected or accepted.

    Raises FileNotFoundError when espeak-ng or faster-whisper base is not installed, and AsrError.
    """
    if shutil.which("espeak-ng") is None:
        raise FileNotFoundError(2, "not installed: apt-get install espeak-ng", "espeak-ng")
    found = locate("base")
    if found is None:
        raise FileNotFoundError(2, "not here: undertone models pull base", "faster-whisper base")
    whisper = Whisper(found.folder)
    counts: dict[tuple[str, str, str], list[int]] = {}
    for source, speaker in _speakers(data):
        progress.tell(f"{source}: {len(speaker)} recordings of a speaker")
        belief = Belief()
        for language, samples in speaker:
            for utterance in utterances(samples, WebRtcVad()):
                transcription = whisper([utterance], None)[0]
                belief = belief.after(transcription.languages or {}, KNOWN)
                _count(counts, (source, language, _length(len(utterance) / RATE - 0.5)), belief)
    for source, lines in _texts(data):
        belief = Belief()
        for language, text in lines:
            belief = belief.after(languages_of(text), KNOWN)
            words = len(text.split())
            _count(counts, (source, language, "to 3 words" if words <= 3 else "4 and more words"), belief)
    return [
        {
            "source": source, "language": language, "length": length, "utterances": total,
            "wrongly left out" if language in KNOWN else "wrongly read": wrong,
            "%": round(100 * wrong / total, 1),
        }
        for (source, language, length), (total, wrong) in counts.items()
    ]  # fmt: skip


def _count(counts: dict[tuple[str, str, str], list[int]], key: tuple[str, str, str], belief: Belief) -> None:
    left_out = belief.known < 0.5
    row = counts.setdefault(key, [0, 0])
    row[0] += 1
    row[1] += left_out if key[1] in KNOWN else not left_out


def _length(seconds: float) -> str:
    """Class of length; seconds: without pre-roll and padding."""
    return "to 1 s" if seconds < 1 else "1 to 3 s" if seconds < 3 else "3 s and more"


def _speakers(data: Path) -> Iterator[tuple[str, list[tuple[str, Samples]]]]:
    """(source, [(language, recording [n] float32 at 16 kHz)]) for each speaker."""
    readers: dict[str, list[Path]] = {}
    for path in sorted((data / "librispeech").glob("*-*.flac")):
        readers.setdefault(path.name.partition("-")[0], []).append(path)
    actors: dict[str, list[Path]] = {}
    acted = sorted((data / "ravdess").glob("Actor_*/03-01-*.flac"))
    for n in sorted(np.random.default_rng(SEED).permutation(len(acted))[:RAVDESS_CLIPS]):
        actors.setdefault(acted[n].parent.name, []).append(acted[n])
    for source, people in (("LibriSpeech", readers), ("RAVDESS", actors)):
        for paths in people.values():
            yield source, [("en", read_audio(path)[0]) for path in paths]
    for path in sorted((data / "conversations").rglob("*.flac")):
        yield "AMI, one microphone", [("en", read_audio(path)[0])]
    for path in sorted((data / "conversations" / "telephone").glob("*.wav")):
        yield "telephone", [("en", read_audio(path)[0])]
    for language in SENTENCES:
        for voice in VOICES:
            yield "espeak-ng", [(language, synthesize(language + voice, text)) for text in SENTENCES[language]]
    for other in ("de", "fr", "es"):
        recordings = [(language, synthesize(language + VOICES[0], text)) for language, text in _switching(other)]
        yield "espeak-ng, code switching", recordings


def _texts(data: Path) -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    """(source, [(language, text)]) for each speaker."""
    for corpus in ("meld", "emorynlp"):
        table, people = data / corpus / "dev.csv", dict[tuple[str, str], list[tuple[str, str]]]()
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                people.setdefault((row["dialogue_id"], row["speaker"]), []).append(("en", row["text"]))
        for lines in people.values():
            yield f"text of {corpus} dev", lines
    for language, sentences in SENTENCES.items():
        yield "text", [(language, text) for text in sentences]
    for other in ("de", "fr", "es"):
        yield "text, code switching", _switching(other)


def _switching(other: str) -> list[tuple[str, str]]:
    """Five sentences in English, five in another language, and so on."""
    blocks = [(language, SENTENCES[language][first : first + 5]) for first in (0, 5) for language in ("en", other)]
    return [(language, text) for language, block in blocks for text in block]


def synthesize(voice: str, text: str) -> Samples:
    """[n] float32 at 16 kHz: speech synthesized by espeak-ng, with silence around it."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["espeak-ng", "-v", voice, "-s", "150", "-w", file.name, text]
        subprocess.run(command, check=True)
        samples: Samples = np.pad(read_audio(Path(file.name))[0], (RATE // 2, RATE))
    return samples
