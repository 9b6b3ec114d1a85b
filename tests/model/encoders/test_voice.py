from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.encoders import asr
from model.encoders.speaker import SpeakerEncoder
from model.encoders.voice import ALONE, WITH_WORDS, VoiceEncoder, VoiceError, loud_part, speaker_states, trim
from model.encoders.whisper import Whisper
from model.labels import LABEL_SETS, RAVDESS, translate
from model.metrics import uar
from model.training.voice_train import (
    INPUTS,
    PEAK_DB,
    VoiceRecipe,
    augment,
    filtered,
    logits_of,
    room_response,
    save,
    train,
    with_noise,
)
from tests.support.recordings import RATE, voice

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def speaker() -> SpeakerEncoder:
    return SpeakerEncoder()


def whisper_of(name: str) -> Whisper:
    found = asr.locate(name)
    assert found is not None
    return Whisper(found.folder)


def test_the_shipped_encoder_says_what_it_was_trained_on_and_judges_with_and_without_words(
    speaker: SpeakerEncoder,
) -> None:
    encoder = VoiceEncoder()
    assert "RAVDESS" in encoder.card["trained_on"] and len(encoder.card["actors"]) == 20
    states = speaker_states(speaker, voice(3))
    assert states is not None and states.shape == (INPUTS[ALONE],)
    of_words = RNG.normal(size=INPUTS[WITH_WORDS] - INPUTS[ALONE]).astype(np.float32)
    alone, with_words = encoder(states), encoder(states, of_words)
    for judged in (alone, with_words):
        assert judged.arousal is not None and -1 <= judged.arousal <= 1
        assert judged.expression is not None and judged.expression.shape == (len(RAVDESS),)
        assert judged.expression.sum() == pytest.approx(1, abs=1e-5)
    assert alone.arousal != with_words.arousal


def test_a_folder_of_an_earlier_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"0")
    with pytest.raises(VoiceError, match="undertone train-voice makes one"):
        VoiceEncoder(tmp_path)


def test_too_little_to_hear_is_no_opinion(speaker: SpeakerEncoder) -> None:
    for samples in (np.zeros(RATE, np.float32), voice(0.1), np.zeros(0, np.float32)):
        assert speaker_states(speaker, samples) is None


def test_silence_around_speech_does_not_count() -> None:
    speech, quiet = voice(1.5), RNG.normal(0, 1e-3, RATE).astype(np.float32)
    samples = np.concatenate([quiet, speech, quiet])
    loud = loud_part(samples)
    assert loud.stop - loud.start == pytest.approx(len(speech) + 0.3 * RATE, abs=0.06 * RATE)
    np.testing.assert_array_equal(trim(samples), samples[loud])
    asked: list[tuple[float, float]] = []

    class Watched:
        def states(self, _: np.ndarray, start: float, end: float) -> np.ndarray:
            asked.append((start, end))
            return np.zeros(INPUTS[ALONE], np.float32)

    speaker_states(Watched(), samples)
    assert asked == [(loud.start / RATE, loud.stop / RATE)]


def test_states_are_those_of_the_run_that_told_speakers_apart(
    speaker: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = voice(2, seed=5)
    anew = speaker.states(samples, 0.2, 1.5)
    speaker.stretches(samples, [(0.0, 1.0), (1.0, 2.0)])
    monkeypatch.setattr(speaker, "_session", None)
    np.testing.assert_array_equal(speaker.states(samples.copy(), 0.2, 1.5), anew)
    with pytest.raises(AttributeError):
        speaker.states(voice(2, seed=6))


def test_line_noise_and_room_do_what_they_say() -> None:
    samples = voice(2)
    power = np.abs(np.fft.rfft(filtered(samples, telephone=True))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    assert power[hertz > 4500].sum() < 1e-5 * power.sum() and power[hertz < 100].sum() < 1e-3 * power.sum()
    noisy = with_noise(RNG, samples, 10)
    assert 20 * np.log10(samples.std() / (noisy - samples).std()) == pytest.approx(10, abs=0.5)
    assert np.abs(filtered(samples, room_response(RNG, 0.5)) - samples).mean() > 1e-3
    heard = augment(RNG, samples, [samples])
    assert len(heard) > RATE and PEAK_DB[0] - 0.1 <= 20 * np.log10(np.abs(heard).max()) <= PEAK_DB[1] + 0.1


def made_up(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs [count, 2, 40] in two versions, emotions, and intensity, which other numbers tell."""
    rng = np.random.default_rng(1)
    emotions, strong = rng.integers(1, 4, count), rng.random(count) < 0.5
    inputs = rng.normal(size=(count, 2, 40))
    inputs[np.arange(count), :, emotions] += 4
    inputs[strong, :, 20:30] += 1.5
    return inputs.astype(np.float32), emotions, strong


def test_training_learns_expression_and_arousal() -> None:
    inputs, emotions, strong = made_up(160)
    network = train(inputs[:120], emotions[:120], strong[:120], VoiceRecipe(epochs=80), 0)
    logits = logits_of(network, inputs[120:, 0])
    assert np.mean(logits[:, :-1].argmax(1) == emotions[120:]) >= 0.8
    assert np.mean((logits[:, -1] > 0) == strong[120:]) >= 0.8


def test_what_is_saved_is_what_was_trained(tmp_path: Path) -> None:
    rng, networks = np.random.default_rng(2), {}
    for name, width in INPUTS.items():
        inputs = rng.normal(3, 2, size=(24, 1, width)).astype(np.float32)
        networks[name] = train(inputs, np.arange(24) % 8, np.arange(24) % 2 == 0, VoiceRecipe(epochs=2), 0)
    save(networks, {ALONE: 1.5, WITH_WORDS: 1.0}, tmp_path, {})
    encoder, states = VoiceEncoder(tmp_path), rng.normal(3, 2, INPUTS[WITH_WORDS]).astype(np.float32)
    for name, heat in ((ALONE, 1.5), (WITH_WORDS, 1.0)):
        of_words = states[INPUTS[ALONE] :] if name == WITH_WORDS else None
        judged = encoder(states[: INPUTS[ALONE]], of_words)
        (logits,) = torch.from_numpy(logits_of(networks[name], states[None, : INPUTS[name]]))
        np.testing.assert_allclose(judged.expression, (logits[:-1] / heat).softmax(0).numpy(), atol=0.01)
        assert judged.arousal == pytest.approx(float(2 * logits[-1].sigmoid() - 1), abs=0.02)


def test_posteriors_in_the_words_of_a_checkpoint() -> None:
    emotions = LABEL_SETS["meld"].emotions
    posterior = np.array([0.1, 0.2, 0.3, 0.1, 0.1, 0.05, 0.05, 0.1], np.float32)
    seven = translate(RAVDESS, posterior, emotions)
    assert seven is not None
    said = dict(zip(emotions, seven.tolist(), strict=True))
    assert said["neutral"] == pytest.approx(0.3) and said["joy"] == pytest.approx(0.3)  # calm is neutral
    assert translate(RAVDESS, posterior, LABEL_SETS["emorynlp"].emotions) is None


@pytest.mark.data
def test_emotions_are_heard_also_over_the_telephone(data: Path, speaker: SpeakerEncoder, base: str) -> None:
    """On actors it was trained on, so this guards the way from clip to posterior, not the figure in the README."""
    from workers.bench.accuracy.data import ravdess

    encoder, clips, whisper = VoiceEncoder(), ravdess(data / "ravdess" / "Actor_03"), whisper_of(base)
    truth = np.array([clip.emotion for clip in clips])
    for change in (lambda samples: samples, lambda samples: filtered(samples, telephone=True)):
        guesses: list[list[int]] = [[], []]
        for clip in clips:
            samples = change(trim(clip.samples))
            states = speaker_states(speaker, samples)
            assert states is not None
            for guess, of_words in zip(guesses, (None, whisper.states(samples)), strict=True):
                expression = encoder(states, of_words).expression
                assert expression is not None
                guess.append(int(expression.argmax()))
        assert all(uar(truth, np.array(guess)) > 0.6 for guess in guesses)


@pytest.mark.data
def test_a_users_own_folder_called_base_gives_no_states(models: Path, tmp_path: Path) -> None:
    """It may hold any model, whose states the voice encoder cannot read."""
    own = shutil.copytree(models / "whisper_digits", tmp_path / "base")
    found = asr.locate(str(own))
    assert found is not None and found.name == asr.READ_BY_VOICE
    assert asr.load(str(own))._asr._states is False


@pytest.mark.data
def test_recognized_words_come_with_the_states_that_the_voice_encoder_reads(data: Path, base: str, tiny: str) -> None:
    from stream.sources.file import read_audio

    samples = read_audio(data / "librispeech" / "jfk.flac")[0][: 5 * RATE]
    (heard,) = asr.load("base")([samples], "en")
    assert heard.text and heard.states is not None
    np.testing.assert_array_equal(heard.states, whisper_of(base).states(samples))
    (other,) = asr.load("tiny.en")([samples], "en")
    assert other.text and other.states is None
