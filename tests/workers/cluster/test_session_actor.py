"""Where served sessions live, and what Ray knows of it."""

from __future__ import annotations

import ray

from stream.bus.running import Home, this_process
from workers.cluster.session_actor import is_there, served_home


def test_only_who_can_know_says_that_a_session_is_gone(ray_address: str) -> None:
    shared, private = served_home("desk", private_ray=False), served_home("desk", private_ray=True)
    assert shared.node == private.node == ray.get_runtime_context().get_node_id()
    assert shared.machine is None and private.pid == this_process().pid and private.cluster is None
    assert is_there("nobody", shared) is False and is_there("nobody", private) is False
    elsewhere = {"owner": "desk", "node": "f" * 56}
    assert is_there("nobody", Home.model_validate(elsewhere | {"cluster": "203.0.113.9:6379"})) is None
    assert is_there("nobody", Home.model_validate(elsewhere | {"cluster": shared.cluster})) is False, (
        "another cluster is where it was"
    )
    assert is_there("nobody", this_process()) is None, "a command that runs here"
    assert is_there("nobody", this_process().model_copy(update={"pid": 2**22 + 1})) is False
