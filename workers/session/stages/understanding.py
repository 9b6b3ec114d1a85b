"""Stage 3, understand: words, voice and face of each admitted utterance, and its speaker's language.

All at once, by the backend; for an utterance that may be ending, ahead of its end. What fails costs its modality alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from model.encoders.face_observation import EXPRESSIONS, FaceObservation
from model.encoders.prosody import Array
from model.encoders.spoken_language import Belief
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.encoders.voice_observation import VoiceObservation
from model.fusion.config import FusionConfig
from model.labels import RAVDESS, translate
from stream.block import RATE, Utterance
from stream.bus.tasks import abandon
from stream.clock import Clock
from workers.session.services import InferenceBackend, SessionPlan
from workers.session.stages.admission import Admission
from workers.session.stages.languages import SpokenLanguages
from workers.session.stages.overload import DegradationStep
from workers.session.stages.speculation import SpeculativeResults
from workers.session.utterance import AdmittedUtterance, SpokenLine, UnderstoodUtterance, Words, error_line

VoiceResult = tuple[Array | None, VoiceObservation | None]
FaceResult = tuple[FaceObservation | None, dict[str, Array]]


class Understanding:
    """Asks the backend about each utterance."""

    def __init__(
        self,
        plan: SessionPlan,
        config: FusionConfig,
        backend: InferenceBackend,
        admission: Admission,
        speculative: SpeculativeResults,
        clock: Clock,
    ) -> None:
        self._plan, self._config, self._backend = plan, config, backend
        self._admission, self._speculative, self._clock = admission, speculative, clock
        self._overload = admission.overload
        declared = plan.transcript.language if plan.transcript is not None else None
        self._languages = SpokenLanguages(config.text.languages, plan.language, declared)
        self._guesses: set[asyncio.Task[None]] = set()

    def restore(self, beliefs: Mapping[str, Belief]) -> None:
        """Go on with another process's beliefs about the speakers' languages."""
        self._languages.restore(beliefs)

    async def understand(self, admitted: AdmittedUtterance) -> UnderstoodUtterance:
        """Words, voice and face of an utterance that has ended."""
        started = self._clock.now()
        with admitted.trace.entered():
            words, voice, face = await asyncio.gather(
                self._read(admitted), self._hear(admitted.utterance), self._see(admitted.utterance),
                return_exceptions=True,
            )  # fmt: skip
        self._speculative.done(admitted.utterance)
        read = Words(admitted.given, error=error_line(words)) if isinstance(words, BaseException) else words
        failed = {"audio": voice, "visual": face}
        errors = {"text": read.error} if read.error else {}
        errors |= {name: error_line(each) for name, each in failed.items() if isinstance(each, BaseException)}
        prosody, sound = (None, None) if isinstance(voice, BaseException) else voice
        try:
            sound = await self._judge_with_words(sound, read)
        except Exception as error:
            errors["audio"] = error_line(error)
        seen, expressed = (None, {}) if isinstance(face, BaseException) else face
        # Loading is no part of the time that a label takes: it comes once, whatever is said.
        waited = self._admission.loading_since(admitted.admitted_at)
        loading = self._admission.loading_since(started)
        spent = self._clock.now() - started - loading
        read = replace(read, asr_s=min(spent, max(0.0, read.asr_s - loading)))
        return UnderstoodUtterance(
            read, prosody, sound, seen, self._posteriors(read, sound) | expressed,
            errors=errors,
            queue_s=max(0.0, started - admitted.admitted_at - (waited - loading)),
            encode_s=max(0.0, spent - read.asr_s),
        )  # fmt: skip

    async def words_so_far(self, admitted: AdmittedUtterance) -> Words:
        """Words of an utterance that goes on.

        Never shared with other requests: partial words yield to finished utterances in the queue, and the utterance's
        end must not wait for such a result.
        """
        words = Words(admitted.given)
        if self._recognizes:
            samples, language = admitted.utterance.samples, self._languages.expected(admitted.speaker)
            said = await self._backend.transcribe(samples, language, partial=True)
            if self._languages.is_guess(admitted.speaker, said, len(samples) / RATE):
                return Words(Transcription())
            words = Words(said)
        return replace(words, foreign=self._languages.judge(admitted.speaker, words.transcription).foreign)

    async def understand_so_far(self, admitted: AdmittedUtterance, words: Words) -> UnderstoodUtterance:
        """The reading of words so far, and the voice, of an utterance that goes on. It waits for no words."""
        known = tuple(line for line in admitted.context if line.is_final)
        read, (prosody, sound) = await asyncio.gather(
            self._embed(replace(admitted, context=known), words), self._hear(admitted.utterance)
        )
        sound = await self._judge_with_words(sound, words)
        return UnderstoodUtterance(read, prosody, sound, None, self._posteriors(read, sound))

    def speculate(self, ending: Iterable[Utterance]) -> None:
        """Ask already what will be asked if these utterances end here."""
        for utterance in ending:
            if self._speculative.begin(utterance):
                guess = asyncio.create_task(self._run_speculatively(utterance, self._admission.context))
                self._guesses.add(guess)
                guess.add_done_callback(self._guesses.discard)

    def close(self) -> None:
        """Nothing goes on any more."""
        for guess in self._guesses:
            abandon(guess)

    async def _run_speculatively(self, utterance: Utterance, context: tuple[SpokenLine, ...]) -> None:
        with suppress(Exception):  # the utterance's true end will tell
            admitted = replace(await self._admission.preview(utterance), context=context)
            await asyncio.gather(self._read(admitted), self._hear(utterance), self._see(utterance))

    @property
    def _recognizes(self) -> bool:
        """Words come from a recognizer of speech."""
        readable = "text" in self._plan.modalities and self._plan.transcript is None
        return readable and self._plan.encoders["asr"] is not None

    async def _read(self, admitted: AdmittedUtterance) -> Words:
        """Words, their language, their reading. An error leaves what was found before it."""
        words = Words(admitted.given)
        if "text" not in self._plan.modalities or self._overload.is_shed(DegradationStep.WORDS):
            admitted.line.settle(words.readable)
            return replace(words, left_out="text" in self._plan.modalities)
        started = self._clock.now()
        try:
            words = replace(words, transcription=await self._transcribe(admitted))
            words = replace(words, asr_s=self._clock.now() - started)
            for earlier in admitted.context:  # beliefs about languages change in the utterances' order
                await earlier.wait()
            words = await self._settle_language(admitted, words)
            if not words.transcription.text and admitted.so_far is not None:  # the end of the sound made it uncertain
                words = replace(words, transcription=admitted.so_far.transcription, foreign=admitted.so_far.foreign)
            admitted.line.settle(words.readable)
            return await self._embed(admitted, words)
        except Exception as error:
            return replace(words, error=error_line(error))
        finally:
            admitted.line.settle(words.readable)

    async def _transcribe(self, admitted: AdmittedUtterance) -> Transcription:
        if self._recognizes:
            return await self._recognize(admitted.utterance, self._languages.expected(admitted.speaker))
        given = admitted.given
        if self._plan.language is not None or not given.text:
            return given
        languages = await self._speculative.get_or_start(
            admitted.utterance, "language", lambda: self._backend.languages(given.text)
        )
        return replace(given, languages=languages)

    async def _recognize(self, utterance: Utterance, language: str | None) -> Transcription:
        return await self._speculative.get_or_start(
            utterance, ("words", language), lambda: self._backend.transcribe(utterance.samples, language)
        )

    async def _settle_language(self, admitted: AdmittedUtterance, words: Words) -> Words:
        """Decide in which language the utterance is; words recognized in another one are recognized again."""
        spoken = words.transcription
        belief = self._languages.judge(admitted.speaker, spoken)
        beliefs = self._languages.keep(admitted.speaker, belief) if admitted.number >= 0 else None
        language = self._languages.language(belief, spoken.languages or {})
        if self._recognizes and spoken.languages and language not in (None, spoken.language):
            spoken = await self._recognize(admitted.utterance, language)
        return replace(words, transcription=spoken, foreign=belief.foreign, beliefs=beliefs)

    async def _embed(self, admitted: AdmittedUtterance, words: Words) -> Words:
        if "text" not in self._plan.modalities or not words.readable:
            return words
        past = admitted.context[max(0, len(admitted.context) - self._config.context) :]
        lines = [*(earlier.line for earlier in past), Line(admitted.speaker, words.readable, self._recognizes)]
        embedding, posterior = await self._speculative.get_or_start(
            admitted.utterance, tuple(lines), lambda: self._backend.embed(lines)
        )
        return replace(words, embedding=embedding, posterior=posterior)

    async def _hear(self, utterance: Utterance) -> VoiceResult:
        """Prosody, and the sound."""
        if "audio" not in self._plan.modalities or not self._plan.encoders["audio"]:
            return None, None
        return await self._speculative.get_or_start(
            utterance, "voice", lambda: self._backend.encode_audio(utterance.samples)
        )

    async def _judge_with_words(self, sound: VoiceObservation | None, words: Words) -> VoiceObservation | None:
        """The sound, judged again where the recognizer of the words has states that the voice encoder reads."""
        states = words.transcription.states
        if sound is None or sound.states is None or states is None:
            return sound
        return replace(await self._backend.judge_voice(sound.states, states), sounds=sound.sounds)

    async def _see(self, utterance: Utterance) -> FaceResult:
        """Faces, and the posterior of the face expert."""
        if not self._plan.encoders.get("visual") or self._overload.is_shed(DegradationStep.WORDS):
            return None, {}
        frames = utterance.frames[:: 4 if self._overload.is_shed(DegradationStep.PICTURES) else 1]
        images, times = [frame.image for frame in frames], [frame.time for frame in frames]
        face = await self._speculative.get_or_start(
            utterance, "face",
            lambda: self._backend.analyse_faces(images, times, utterance.samples, utterance.start),
        )  # fmt: skip
        return face, self._translated("face", EXPRESSIONS, face.expression)

    def _posteriors(self, words: Words, sound: VoiceObservation | None) -> dict[str, Array]:
        """Posteriors of the experts for words and voice."""
        read = {} if words.posterior is None else {"reader": words.posterior}
        return read | self._translated("voice", RAVDESS, None if sound is None else sound.expression)

    def _translated(self, expert: str, names: tuple[str, ...], posterior: Array | None) -> dict[str, Array]:
        """An expert's posterior over `names` as one over the checkpoint's emotions, if it has such an expert."""
        if posterior is None or expert not in self._config.experts:
            return {}
        own = translate(names, posterior, self._config.emotions)
        return {} if own is None else {expert: own}
