"""The promises of the network: no future, streaming = batch, flat cost, absent is not zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.fusion.config import MODULES
from model.fusion.dialogue import UtteranceFeatures
from model.fusion.incremental import IncrementalLabeller
from model.fusion.network import FusionGCN
from model.fusion.step import GraphState
from model.fusion.step_network import step_of
from model.training.collate import collate
from tests.support.fusion import CONFIG, conversation


@pytest.fixture(scope="module")
def model() -> FusionGCN:
    torch.manual_seed(1)
    network = FusionGCN(CONFIG).eval()
    for parameter in network.parameters():  # so that zero-initialised biases and relations count
        torch.nn.init.normal_(parameter, std=0.3)
    network.expert_weight.copy_(torch.tensor([0.4, 0.2]))
    network.expert_prior.copy_(torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]))
    network.temperature.fill_(1.3)
    network.revision_temperature.fill_(0.8)
    return network


def batch_logits(model: FusionGCN, spoken: list[UtteranceFeatures]) -> torch.Tensor:
    with torch.inference_mode():
        return model(collate([spoken], CONFIG, [0])).emotion[0]


def labelling(model: FusionGCN) -> IncrementalLabeller:
    return IncrementalLabeller(step_of(model))


def stream_steps(labeller: IncrementalLabeller, spoken: list[UtteranceFeatures], state: GraphState | None = None):
    state = state or labeller.new_state()
    return [labeller.step([state], [utterance])[0] for utterance in spoken]


def probabilities(steps) -> torch.Tensor:
    return torch.tensor([list(step.prediction.emotion.values()) for step in steps])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(2, 24), cut=st.data())
def test_no_later_utterance_moves_an_earlier_label(model: FusionGCN, seed, length, cut) -> None:
    t = cut.draw(st.integers(1, length - 1))
    spoken = conversation(seed, length)
    other = spoken[:t] + conversation(seed + 1, length - t + 3)
    assert torch.equal(batch_logits(model, spoken)[:t], batch_logits(model, other)[:t]) or torch.allclose(
        batch_logits(model, spoken)[:t], batch_logits(model, other)[:t], atol=1e-5
    )


def test_lookahead_sees_just_as_far_as_it_says(model: FusionGCN) -> None:
    spoken = conversation(3, 10)
    changed = spoken[:7] + conversation(4, 3)

    def logits(utterances: list[UtteranceFeatures], lookahead: int) -> torch.Tensor:
        with torch.inference_mode():
            return model(collate([utterances], CONFIG, [0]), lookahead=lookahead).emotion[0]

    assert not torch.allclose(logits(spoken, 1)[6], logits(changed, 1)[6], atol=1e-3)
    layers = CONFIG.layers + 2
    assert torch.allclose(logits(spoken, 1)[: 7 - layers], logits(changed, 1)[: 7 - layers], atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 30))
def test_streaming_equals_batch_through_eviction(model: FusionGCN, seed, length) -> None:
    spoken = conversation(seed, length)
    steps = stream_steps(labelling(model), spoken)
    assert torch.allclose(probabilities(steps), batch_logits(model, spoken).softmax(-1), atol=1e-5)


def test_streaming_equals_batch_for_final_labels(model: FusionGCN) -> None:
    spoken, labeller = conversation(5, 17), labelling(model)
    state = labeller.new_state()
    steps = stream_steps(labeller, spoken, state)
    finals = [step.final for step in steps if step.final] + labeller.finish(state)
    assert [final.number for final in finals] == list(range(17))
    with torch.inference_mode():
        utterances = collate([spoken], CONFIG, [0])
        labels = model(utterances)
        expected, _ = model.revise(labels.rows, utterances.slot, utterances.index)
    got = torch.tensor([list(final.emotion.values()) for final in finals])
    assert torch.allclose(got, expected[0].softmax(-1), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), position=st.integers(1, 19))
def test_a_restart_from_rows_changes_nothing(model: FusionGCN, seed, position) -> None:
    spoken, labeller = conversation(seed, 20), labelling(model)
    undisturbed = stream_steps(labeller, spoken)
    restored = labeller.restore([step.row for step in undisturbed[:position][-CONFIG.window :]])
    after = stream_steps(labeller, spoken[position:], restored)
    assert torch.allclose(probabilities(after), probabilities(undisturbed[position:]), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), sessions=st.integers(2, 6))
def test_micro_batching_with_other_sessions_changes_nothing(model: FusionGCN, seed, sessions) -> None:
    labeller = labelling(model)
    conversations = [conversation(seed + n, 12) for n in range(sessions)]
    alone = [probabilities(stream_steps(labeller, spoken)) for spoken in conversations]
    states = [labeller.new_state() for _ in conversations]
    for n in range(sessions):  # they are at different places in their conversations
        stream_steps(labeller, conversations[n][: n % 4], states[n])
    together = labeller.step(states, [spoken[n % 4] for n, spoken in enumerate(conversations)])
    for n, step in enumerate(together):
        assert torch.allclose(probabilities([step])[0], alone[n][n % 4], atol=1e-5)


def test_memory_is_flat(model: FusionGCN) -> None:
    """States that do not grow: the same arrays at utterance 1,000 as at the first, and in the next conversation."""
    labeller = labelling(model)
    state = labeller.new_state()
    arrays, size = list(labeller._network._engine._states.arrays.values()), state.nbytes
    for utterance in conversation(0, 1000):
        labeller.step([state], [utterance])
    assert state.nbytes == size and state.count == 1000
    del state
    assert labeller.new_state().count == 0
    assert all(a is b for a, b in zip(labeller._network._engine._states.arrays.values(), arrays, strict=True))


def test_a_question_leaves_no_trace(model: FusionGCN) -> None:
    """What is not kept moves no later label, provisional or final."""
    spoken, labeller = conversation(8, 17), labelling(model)
    undisturbed, previewed = labeller.new_state(), labeller.new_state()
    for n, utterance in enumerate(spoken):
        labeller.step([previewed], conversation(100 + n, 1), commit=False)
        one, other = (labeller.step([state], [utterance])[0] for state in (undisturbed, previewed))
        assert one.prediction == other.prediction and one.final == other.final
    labeller.step([previewed], conversation(99, 1), commit=False)
    assert labeller.finish(undisturbed) == labeller.finish(previewed)


def test_values_of_an_absent_modality_do_not_matter(model: FusionGCN) -> None:
    utterances = collate([conversation(7, 9)], CONFIG, [0])
    noisy = {
        name: torch.where(utterances.present[..., m, None], values, torch.randn_like(values) * 100)
        for m, (name, values) in enumerate(utterances.features.items())
    }
    with torch.inference_mode():
        clean = model(utterances)
        other = model(replace(utterances, features=noisy))
    assert torch.allclose(clean.emotion, other.emotion, atol=1e-6)


def test_absent_is_not_zero(model: FusionGCN) -> None:
    spoken = [UtteranceFeatures({"text": np.ones(12, np.float32)}, 0)]
    zeros = [UtteranceFeatures({"text": np.ones(12, np.float32), "audio": np.zeros(6, np.float32)}, 0)]
    assert not torch.allclose(batch_logits(model, spoken), batch_logits(model, zeros), atol=1e-3)
    step = stream_steps(labelling(model), spoken)[0]
    assert set(step.prediction.contribution) == {"text"}
    assert step.prediction.contribution["text"] == pytest.approx(1)


def test_padding_changes_nothing(model: FusionGCN) -> None:
    short, long = conversation(1, 3), conversation(2, 9)
    with torch.inference_mode():
        both = model(collate([short, long], CONFIG, [0, 0])).emotion
    assert torch.allclose(both[0, :3], batch_logits(model, short), atol=1e-5)
    assert torch.allclose(both[1], batch_logits(model, long), atol=1e-5)


def test_influences_name_earlier_utterances_within_the_window(model: FusionGCN) -> None:
    steps = stream_steps(labelling(model), conversation(11, 15))
    assert steps[0].prediction.influences == {}
    for step in steps:
        number = step.prediction.number
        assert all(number - CONFIG.window <= other < number for other in step.prediction.influences)
        assert sum(step.prediction.influences.values()) <= 1 + 1e-5


def test_speaker_slots_matter_only_as_identities_beyond_the_embedding(model: FusionGCN) -> None:
    spoken = conversation(2, 8)
    same = [replace(utterance, slot=0) for utterance in spoken]
    assert not torch.allclose(batch_logits(model, spoken), batch_logits(model, same), atol=1e-3)


def test_a_revision_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="revision"):
        replace(CONFIG, revision=6)


def test_experts_join_by_log_linear_pooling(model: FusionGCN) -> None:
    """p^T ∝ p_gcn · Π (p_expert / prior)^w, and one without an opinion changes nothing."""
    spoken = conversation(11, 8)
    silent = [replace(one, expert_posteriors={}) for one in spoken]
    expected = batch_logits(model, silent).clone()
    for t, one in enumerate(spoken):
        for e, name in enumerate(CONFIG.experts):
            if name in one.expert_posteriors:
                ratio = torch.from_numpy(one.expert_posteriors[name]) / model.expert_prior[e]
                expected[t] += model.expert_weight[e] * ratio.log() / model.temperature
    assert torch.allclose(batch_logits(model, spoken), expected, atol=1e-5)


@pytest.mark.parametrize("left_out", [*((module,) for module in MODULES), MODULES])
def test_every_ablation_keeps_the_promises(left_out: tuple[str, ...]) -> None:
    """No future, streaming = batch, also for the final label, whichever module is left out."""
    torch.manual_seed(2)
    config = replace(CONFIG, without=left_out)
    network = FusionGCN(config).eval()
    assert sum(p.numel() for p in network.parameters()) <= sum(p.numel() for p in FusionGCN(CONFIG).parameters())
    spoken = conversation(5, 15)
    labeller = labelling(network)
    state = labeller.new_state()
    steps = stream_steps(labeller, spoken, state)
    with torch.inference_mode():
        utterances = collate([spoken], config, [0])
        labels = network(utterances)
        final, _ = network.revise(labels.rows, utterances.slot, utterances.index)
    assert torch.allclose(probabilities(steps), labels.emotion[0].softmax(-1), atol=1e-5)
    finals = [step.final for step in steps if step.final] + labeller.finish(state)
    got = torch.tensor([list(one.emotion.values()) for one in finals])
    assert torch.allclose(got, final[0].softmax(-1), atol=1e-5)
    other = batch_logits(network, spoken[:9] + conversation(6, 6))
    assert torch.allclose(batch_logits(network, spoken)[:9], other[:9], atol=1e-5)
