"""`python -m tests.golden`: write the golden files anew, after a change of wire or command line that is meant.

Read the difference before you commit it. The files of `written/` are never regenerated: they stand for earlier
versions; `python -m tests.golden written NAME` adds a folder of what this version writes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from tests.golden import GOLDEN, WRITTEN, commands, events, sessions
from tests.golden.sessions import Servers
from tests.support.gateways import gateways
from tests.support.redis_servers import private_server
from workers.cluster.actors import ray_cluster


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """A private Redis and a private Ray, and nothing of the user's."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "XDG_STATE_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with private_server() as url, ray_cluster(None):
        yield Servers(url, ray.get_runtime_context().gcs_address)


def regenerate(folder: Path) -> None:
    """All golden files but those of `written/`."""
    (GOLDEN / "cli.json").write_text(json.dumps(commands.described(), indent=1) + "\n")
    with servers(folder) as both:
        for kind in (sessions.file, sessions.redacted):
            events.write(GOLDEN / f"{kind.__name__}.jsonl", kind(both).events)
        options = ["--redis", both.redis, "--ray-address", both.ray, *sessions.media(folder / "media")]
        with gateways(folder, 1, *options) as (gateway,):
            events.write(GOLDEN / "served.jsonl", sessions.served(gateway).events)
        live = sessions.live(both).events
        resumed, keys = sessions.resumed(both)
    for name, told in (("live", live), ("resumed", resumed.events)):
        events.write(GOLDEN / f"{name}.jsonl", [*events.certain(told), *events.examples(told)])
    (GOLDEN / "keys.json").write_text(json.dumps(keys, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        if sys.argv[1:2] == ["written"]:
            from tests.golden import written

            with servers(Path(temporary)) as started:
                written.write(started, WRITTEN / sys.argv[2], Path(temporary))
        else:
            regenerate(Path(temporary))
