"""States on a device, here the CPU by the same code without graphs: equality, filling up, moving away, restart."""

from __future__ import annotations

import numpy as np
import pytest

from model.fusion.device_engine import NOWHERE, DeviceEngine
from model.fusion.incremental import IncrementalLabeller
from model.fusion.network import FusionGCN
from model.fusion.step import FusionStep
from model.fusion.step_network import step_of
from tests.support.fusion import CONFIG, close, conversation, random_network


@pytest.fixture(scope="module")
def network() -> FusionGCN:
    return random_network(CONFIG)


def on_device(network: FusionGCN, most: int | None = None) -> tuple[IncrementalLabeller, DeviceEngine]:
    engine = DeviceEngine(network, network.config, "cpu", limit=most)
    return IncrementalLabeller(FusionStep(network.config, network.weights(), engine)), engine


@pytest.mark.parametrize(("sessions", "most"), [(1, None), (5, None), (9, 3), (70, None), (70, 8)])
def test_it_labels_as_the_network_does(network: FusionGCN, sessions: int, most: int | None) -> None:
    """Also where not all states fit, and where batches are filled up, or cut."""
    one, (other, engine) = IncrementalLabeller(step_of(network)), on_device(network, most)
    spoken = [conversation(n, 14) for n in range(sessions)]
    mine, theirs = ([each.new_state() for _ in spoken] for each in (one, other))
    rng = np.random.default_rng(0)
    for n in range(14):
        chosen = sorted(rng.choice(sessions, rng.integers(1, sessions + 1), replace=False))
        for commit in (False, True):
            utterances = [spoken[b][n] for b in chosen]
            a = one.step([mine[b] for b in chosen], utterances, commit)
            b = other.step([theirs[b] for b in chosen], utterances, commit)
            for x, y in zip(a, b, strict=True):
                assert close(x.prediction, y.prediction) and close(x.final, y.final)
    assert most is None or np.sum(engine._place != NOWHERE) <= most
    for a, b in zip(mine, theirs, strict=True):
        assert all(close(x, y) for x, y in zip(one.finish(a), other.finish(b), strict=True))


def test_a_restart_takes_rows_of_another_engine(network: FusionGCN) -> None:
    one, (other, _) = IncrementalLabeller(step_of(network)), on_device(network)
    spoken, state = conversation(9, 20), one.new_state()
    undisturbed = [one.step([state], [utterance])[0] for utterance in spoken]
    restored = other.restore([step.row for step in undisturbed[:13][-CONFIG.window :]])
    after = [other.step([restored], [utterance])[0] for utterance in spoken[13:]]
    assert all(close(a.prediction, b.prediction) for a, b in zip(after, undisturbed[13:], strict=True))
    assert all(close(a.final, b.final) for a, b in zip(after, undisturbed[13:], strict=True))


def test_a_state_that_ends_makes_room(network: FusionGCN) -> None:
    labeller, engine = on_device(network, most=2)
    for n in range(10):
        state = labeller.new_state()
        labeller.step([state], conversation(n, 1))
        del state
    assert not engine._away and np.all(engine._place == NOWHERE)
