from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import model.encoders.voice
from model.encoders.voice import VoiceEncoder, trim
from model.encoders.voice_net import VoiceNet, load
from model.labels import LABEL_SETS, RAVDESS, translate
from model.metrics import uar
from model.training.voice_train import (
    Clip,
    VoiceRecipe,
    augment,
    augmented_versions,
    filtered,
    posteriors,
    room_response,
    save,
    train,
    with_noise,
)
from tests.support.recordings import RATE, voice

RNG = np.random.default_rng(0)
SHIPPED = Path(model.encoders.voice.__file__).parent / "weights" / "voice"


def test_the_export_is_the_network(tmp_path: Path) -> None:
    """Whatever the length; and the network itself takes its place where a folder has no export."""
    shutil.copytree(SHIPPED, tmp_path / "voice", ignore=shutil.ignore_patterns("*.onnx"))
    by_graph, by_torch = VoiceEncoder(), VoiceEncoder(tmp_path / "voice")
    for seconds in (0.4, 1.0, 3.3, 20.0):
        one, other = by_graph(voice(seconds)), by_torch(voice(seconds))
        np.testing.assert_allclose(one, other, atol=1e-5)
    save(load(SHIPPED), tmp_path / "again", by_graph.card)
    np.testing.assert_allclose(by_graph(voice(2)), VoiceEncoder(tmp_path / "again")(voice(2)), atol=1e-6)


def test_the_shipped_encoder_is_small_and_says_what_it_was_trained_on() -> None:
    encoder = VoiceEncoder()
    assert sum(p.numel() for p in load(SHIPPED).parameters()) <= 1_000_000
    assert "RAVDESS" in encoder.card["trained_on"] and len(encoder.card["actors"]) == 20
    posterior = encoder(voice(3))
    assert posterior is not None and posterior.shape == (8,) and posterior.sum() == pytest.approx(1, abs=1e-5)


def test_the_gain_of_a_microphone_says_nothing() -> None:
    encoder, samples = VoiceEncoder(), voice(2)
    loud, quiet = encoder(samples), encoder(0.05 * samples)
    assert loud is not None and quiet is not None
    np.testing.assert_allclose(loud, quiet, atol=2e-3)


def test_too_little_to_hear_is_no_opinion() -> None:
    encoder = VoiceEncoder()
    assert encoder(np.zeros(RATE, np.float32)) is None
    assert encoder(voice(0.2)) is None
    assert encoder(np.zeros(0, np.float32)) is None


def test_silence_around_speech_is_cut_and_padding_changes_nothing() -> None:
    speech = voice(1.5)
    padded = np.concatenate([np.zeros(RATE, np.float32), speech, np.zeros(RATE, np.float32)])
    assert len(trim(padded)) == pytest.approx(len(speech) + 0.3 * RATE, abs=0.06 * RATE)
    network = VoiceNet().eval()
    one, two = (network.log_mel(torch.from_numpy(voice(s, seed=1))[None])[0] for s in (1.2, 2.0))
    batch = torch.full((2, *two.shape), -6.0)
    batch[0, :, : one.shape[-1]], batch[1] = one, two
    frames = torch.tensor([one.shape[-1], two.shape[-1]])
    with torch.no_grad():
        together, alone = network(batch, frames), network(two[None], frames[1:])
    torch.testing.assert_close(together[1], alone[0], atol=1e-4, rtol=0)


def test_line_noise_and_room_do_what_they_say() -> None:
    samples = voice(2)
    power = np.abs(np.fft.rfft(filtered(samples, telephone=True))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    assert power[hertz > 4500].sum() < 1e-5 * power.sum() and power[hertz < 100].sum() < 1e-3 * power.sum()
    noisy = with_noise(RNG, samples, 10)
    assert 20 * np.log10(samples.std() / (noisy - samples).std()) == pytest.approx(10, abs=0.5)
    assert np.abs(filtered(samples, room_response(RNG, 0.5)) - samples).mean() > 1e-3
    assert len(augment(RNG, samples, [samples])) > RATE


def test_training_learns() -> None:
    """Two made-up emotions, high and low voices: a network of a few epochs tells them apart."""
    clips = []
    for n in range(16):
        pitch = 1.0 if n % 2 else 1.6
        samples = np.interp(np.arange(0, 24_000, pitch), np.arange(24_000), voice(1.5, seed=n)).astype(np.float32)
        clips.append(Clip(samples, 3 if n % 2 else 4, n))
    recipe = VoiceRecipe(epochs=25, batch=8, versions=2, mix=0.0, smoothing=0.0, dropout=0.0, average=0.5)
    network = train(augmented_versions(clips, recipe, 0), [clip.emotion for clip in clips], recipe, 0)
    guess = posteriors(network, [clip.samples for clip in clips]).argmax(1)
    assert np.mean(guess == [clip.emotion for clip in clips]) >= 0.8


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    network = VoiceNet(dropout=0.0).eval()
    network.temperature.fill_(1.5)
    save(network, tmp_path, {"widths": [24, 48, 96, 160]})
    samples = voice(2)
    posterior = VoiceEncoder(tmp_path)(samples)
    np.testing.assert_allclose(posterior, posteriors(network, [samples])[0], atol=1e-4)


def test_posteriors_in_the_words_of_a_checkpoint() -> None:
    emotions = LABEL_SETS["meld"].emotions
    posterior = np.array([0.1, 0.2, 0.3, 0.1, 0.1, 0.05, 0.05, 0.1], np.float32)
    seven = translate(RAVDESS, posterior, emotions)
    assert seven is not None
    said = dict(zip(emotions, seven.tolist(), strict=True))
    assert said["neutral"] == pytest.approx(0.3) and said["joy"] == pytest.approx(0.3)  # calm is neutral
    assert translate(RAVDESS, posterior, LABEL_SETS["emorynlp"].emotions) is None


@pytest.mark.data
def test_emotions_are_heard_also_over_the_telephone(data: Path) -> None:
    """On actors it was trained on, so this guards the way from clip to posterior, not the figure in the README."""
    from workers.bench.accuracy.data import ravdess

    encoder, clips = VoiceEncoder(), ravdess(data / "ravdess" / "Actor_03")
    truth = np.array([clip.emotion for clip in clips])
    for change in (lambda samples: samples, lambda samples: filtered(samples, telephone=True)):
        guess = np.array([np.argmax(encoder(change(clip.samples))) for clip in clips])
        assert uar(truth, guess) > 0.5
