"""Words, sound and sight of utterances, asked of the helpers; for an utterance that may be ending, ahead of its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from model.encoders.face_observation import EXPRESSIONS
from model.encoders.prosody import Array
from model.encoders.text import Line
from model.encoders.transcription import Transcription
from model.fusion.config import FusionConfig
from model.labels import RAVDESS, translate
from stream.block import Utterance
from workers.session.diarization import Diarization, SpeakerSegment
from workers.session.languages import SpokenLanguages
from workers.session.overload import PICTURES, WORDS, Overload
from workers.session.services import InferenceBackend, SessionPlan
from workers.session.speculation import SpeculativeResults
from workers.session.utterance import UtteranceInProgress, one_line


class Understanding:
    """What a session finds out about each utterance before the network labels it."""

    def __init__(self, plan: SessionPlan, config: FusionConfig, helpers: InferenceBackend, overload: Overload) -> None:
        self.ahead, self._overload = SpeculativeResults(), overload
        self.voices = Diarization(plan.enrolled, self._parts)
        self._plan, self._config, self._helpers = plan, config, helpers
        self.languages = SpokenLanguages(config.text.languages, plan.language)
        self._guesses: set[asyncio.Task[None]] = set()

    async def understand(self, pending: UtteranceInProgress) -> None:
        """Words, sound and sight at once. What breaks costs its modality alone."""
        started = time.monotonic()
        pending.queue = started - pending.heard_at
        with pending.trace.entered():
            work = (self._read(pending), self._listen(pending), self._look(pending))
            outcomes = await asyncio.gather(*work, return_exceptions=True)
        self.ahead.done(pending.utterance)
        pending.broken = [one_line(error) for error in outcomes if isinstance(error, BaseException)]
        pending.encode = time.monotonic() - started - pending.asr

    async def read_so_far(self, pending: UtteranceInProgress) -> None:
        """Words of an utterance that goes on. Asked for anew each time: an answer that others go before is none for
        the utterance's end to wait for."""
        if self._recognizes:
            samples, language = pending.utterance.samples, self.languages.expected(pending.speaker)
            pending.said = await self._helpers.transcribe(samples, language, partial=True)
        pending.foreign = self.languages.judge(pending.speaker, pending.said).foreign

    async def understand_so_far(self, pending: UtteranceInProgress) -> None:
        """Embedding of the words that `read_so_far` found, and the sound, of an utterance that goes on."""
        await asyncio.gather(self._embed(pending), self._listen(pending))

    def begin_ahead(self, pausing: Iterable[Utterance], before: Iterable[UtteranceInProgress]) -> None:
        """Ask already what will be asked if these utterances end here, after those `before`."""
        for utterance in pausing:
            if self.ahead.begin(utterance):
                guess = asyncio.create_task(self._guess(utterance, tuple(before)))
                self._guesses.add(guess)
                guess.add_done_callback(self._guesses.discard)

    def close(self) -> None:
        """Nothing goes on any more."""
        for guess in self._guesses:
            guess.cancel()

    def given_words(self, utterance: Utterance, speaker: str, keep: bool = False) -> Transcription:
        """The transcript's words for an utterance; each is given out once, unless they are to be kept."""
        transcript = self._plan.transcript
        if transcript is None:
            return Transcription()
        channel = utterance.channel if self._plan.speakers == "channel" else None
        # Names that RTTM or --names made up say nothing of the transcript's speakers.
        known = speaker if speaker in transcript.speakers else None
        exact = known is not None and self._plan.speakers == "turns"
        return Transcription(transcript.consume(utterance.start, utterance.end, channel, known, exact, keep))

    async def _guess(self, utterance: Utterance, before: tuple[UtteranceInProgress, ...]) -> None:
        """Whatever fails here, the utterance's true end will tell."""
        with suppress(Exception):
            speaker = await self.voices.guess(utterance)
            session, heard_at = self._plan.session, time.monotonic()
            guess = UtteranceInProgress(
                session, -1, utterance, speaker, heard_at, redacted=True, before=before
            )  # never told
            guess.said = self.given_words(utterance, speaker, keep=True)
            await asyncio.gather(self._read(guess), self._listen(guess), self._look(guess))

    async def _parts(self, utterance: Utterance) -> list[SpeakerSegment]:
        return await self.ahead.ask(utterance, "voices", lambda: self._helpers.speaker_segments(utterance.samples))

    @property
    def _recognizes(self) -> bool:
        """True where words come from a recognizer of speech."""
        readable = "text" in self._plan.modalities and self._plan.transcript is None
        return readable and self._plan.encoders["asr"] is not None

    async def _read(self, pending: UtteranceInProgress) -> None:
        if "text" not in self._plan.modalities or self._overload.without(WORDS):
            pending.understood.set()
            pending.before = ()
            return
        started = time.monotonic()
        try:
            if self._recognizes:
                pending.said = await self._recognize(pending, self.languages.expected(pending.speaker))
            elif self._plan.language is None and pending.said.text:
                text = pending.said.text
                heard = await self.ahead.ask(pending.utterance, "language", lambda: self._helpers.languages(text))
                pending.said = replace(pending.said, languages=heard)
            pending.asr = time.monotonic() - started
            for earlier in pending.before:
                await earlier.understood.wait()
            await self._settle_language(pending)
            pending.understood.set()
            await self._embed(pending)
        finally:
            pending.understood.set()
            pending.before = ()  # else each utterance would hold on to all before it

    async def _recognize(self, pending: UtteranceInProgress, language: str | None) -> Transcription:
        samples = pending.utterance.samples
        return await self.ahead.ask(
            pending.utterance, ("words", language), lambda: self._helpers.transcribe(samples, language)
        )

    async def _settle_language(self, pending: UtteranceInProgress) -> None:
        """Decide in which language the utterance is, after all before it, whichever of them was heard first."""
        belief = self.languages.judge(pending.speaker, pending.said)
        pending.foreign = belief.foreign
        if pending.number >= 0:
            pending.languages = self.languages.keep(pending.speaker, belief)
        language = self.languages.language(belief, pending.said.languages or {})
        if self._recognizes and pending.said.languages and language not in (None, pending.said.language):
            pending.said = await self._recognize(pending, language)

    async def _embed(self, pending: UtteranceInProgress) -> None:
        if "text" not in self._plan.modalities or not pending.readable:
            return
        lines = [Line(each.speaker, each.readable) for each in (*pending.before, pending)]
        pending.embedding, opinion = await self.ahead.ask(
            pending.utterance, tuple(lines), lambda: self._helpers.embed(lines)
        )
        if opinion is not None:
            pending.opinions["reader"] = opinion

    async def _listen(self, pending: UtteranceInProgress) -> None:
        if "audio" in self._plan.modalities and self._plan.encoders["audio"]:
            utterance = pending.utterance
            pending.prosody, posterior = await self.ahead.ask(
                utterance, "voice", lambda: self._helpers.encode_audio(utterance.samples)
            )
            self._opine(pending, "voice", RAVDESS, posterior)

    async def _look(self, pending: UtteranceInProgress) -> None:
        if self._plan.encoders.get("visual") and not self._overload.without(WORDS):
            utterance = pending.utterance
            frames = utterance.frames[:: 4 if self._overload.without(PICTURES) else 1]
            images, times = [frame.image for frame in frames], [frame.time for frame in frames]
            pending.sight = await self.ahead.ask(
                utterance,
                "face",
                lambda: self._helpers.analyse_faces(images, times, utterance.samples, utterance.start),
            )
            self._opine(pending, "face", EXPRESSIONS, pending.sight.expression)

    def _opine(
        self, pending: UtteranceInProgress, expert: str, names: tuple[str, ...], posterior: Array | None
    ) -> None:
        if posterior is not None and expert in self._config.experts:
            opinion = translate(names, posterior, self._config.emotions)
            if opinion is not None:
                pending.opinions[expert] = opinion
