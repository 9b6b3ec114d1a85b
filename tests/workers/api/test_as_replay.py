"""A session in one process gives the labels of `undertone replay`, which has Ray's actors and Redis."""

from __future__ import annotations

import pytest
import undertone
from threadpoolctl import threadpool_limits

from stream.events import Emotion
from tests.support import commands
from tests.support.paths import DEMO, DEMO_TRANSCRIPT


@pytest.mark.parametrize("words", ["given", "recognized"])
def test_the_labels_are_those_of_replay(words: str, tiny: str, redis_url: str, ray_address: str) -> None:
    given = words == "given"
    options = ["--transcript", DEMO_TRANSCRIPT] if given else ["--asr-model", tiny]
    done = commands.undertone(
        "replay", DEMO, *options, "--speed", "max", "--json", "--redis", redis_url, "--ray-address", ray_address
    )
    assert done.returncode == 0, done.stderr
    settings = undertone.Settings(transcript=DEMO_TRANSCRIPT) if given else undertone.Settings(asr_model=tiny)
    with threadpool_limits(1):  # as Ray limits its workers: with more threads the same sums are rounded otherwise
        own = [event for event in undertone.analyse(DEMO, settings=settings) if isinstance(event, Emotion)]
    on_a_cluster = undertone.analyse(DEMO, settings=settings, ray_address=ray_address)
    shared = [event for event in on_a_cluster if isinstance(event, Emotion)]
    replayed = commands.events(done)
    for revision in (0, 1):
        theirs = {event["utterance"]: event for event in commands.labels(replayed, revision)}
        assert len(theirs) == 14
        for events in (own, shared):
            ours = {event.utterance: event for event in events if event.revision == revision}
            assert ours.keys() == theirs.keys()
            for number, event in ours.items():
                assert (event.text, event.speaker) == (theirs[number]["text"], theirs[number]["speaker"])
                assert event.probabilities == pytest.approx(theirs[number]["probabilities"], abs=1e-5)
