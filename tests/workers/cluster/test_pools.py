"""Placement: sessions over nodes by rendezvous hashing."""

from __future__ import annotations

from collections import Counter

import pytest

from workers.cluster.pools import MAX_ENCODERS, encoder_of, encoders_of, node_of

SESSIONS = [f"session-{n:04x}" for n in range(1000)]


def nodes(count: int, cpus: float = 4) -> dict[str, float]:
    return {f"{n:056x}": cpus for n in range(count)}


def places(cpus: dict[str, float]) -> dict[str, str]:
    return {session: node_of(session, cpus) for session in SESSIONS}


@pytest.mark.parametrize("count", [2, 4, 10])
def test_nodes_get_equal_shares(count: int) -> None:
    shares = Counter(places(nodes(count)).values())
    mean = len(SESSIONS) / count
    assert len(shares) == count and 0.7 * mean < min(shares.values()) <= max(shares.values()) < 1.3 * mean


def test_a_larger_node_gets_more() -> None:
    shares = Counter(places({"small": 2, "large": 14}).values())
    assert 0.84 < shares["large"] / len(SESSIONS) < 0.91


@pytest.mark.parametrize("count", [1, 4, 9])
def test_only_its_share_moves_to_a_node_that_comes_and_from_one_that_goes(count: int) -> None:
    fewer, more = places(nodes(count)), places(nodes(count + 1))
    (added,) = nodes(count + 1).keys() - nodes(count).keys()
    moved = [session for session in SESSIONS if fewer[session] != more[session]]
    assert all(more[session] == added for session in moved)
    assert 0.7 < len(moved) / (len(SESSIONS) / (count + 1)) < 1.3


def test_the_order_of_the_nodes_does_not_count() -> None:
    backwards = dict(reversed(nodes(5).items()))
    assert places(nodes(5)) == places(backwards)


def test_encoders_grow_with_a_nodes_cores_and_share_its_sessions() -> None:
    assert [encoders_of(cpus) for cpus in (0, 1, 2, 3, 4, 16, 128)] == [1, 1, 1, 1, 2, 8, MAX_ENCODERS]
    assert {encoder_of(session, 2) for session in SESSIONS} == {0}
    shares = Counter(encoder_of(session, 8) for session in SESSIONS)
    assert len(shares) == 4 and 200 < min(shares.values()) <= max(shares.values()) < 300
    assert all(encoder_of(session, 8) == encoder_of(session, 9) for session in SESSIONS)
