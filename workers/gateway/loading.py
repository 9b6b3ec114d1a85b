"""The models of the sessions to come, loaded before a gateway says that it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from ray.exceptions import RayError

from model.device import DeviceChoice
from model.errors import ModelError
from stream.clock import Clock, MonotonicClock
from workers.cluster.actors import ClusterError
from workers.cluster.pools import Pools, start_models, working_nodes
from workers.session.planning import usual_models
from workers.session.runner import MODEL_LOAD_TIMEOUT_S
from workers.session.services import ServiceError

log = structlog.get_logger("undertone.gateway")


def start_everywhere(asr_model: str | None, device: DeviceChoice) -> list[Pools]:
    """The usual models on every node of the cluster. Raises ModelError, ClusterError, RayError."""
    checkpoint, needs = usual_models(asr_model, device)
    nodes = working_nodes()
    return [start_models(checkpoint, needs, node, nodes) for node in nodes]


@dataclass
class Loading:
    """The models that a gateway loads when it starts, and how far it is."""

    clock: Clock = field(default_factory=MonotonicClock)
    waiting: list[str] = field(default_factory=list)
    """Models that are not loaded yet, in words for a person."""
    is_over: bool = True
    """False while models are loaded: afterwards, and where none are, sessions are welcome."""

    async def run(self, start: Callable[[], list[Pools]], report: Callable[[str], None]) -> None:
        """Load the models of `start`; the gateway is ready in the end whatever happens, since a session that needs
        what could not be loaded says so itself. report: called with a line whenever something changes."""
        self.is_over, began = False, self.clock.now()

        def seconds() -> str:
            return f"{self.clock.now() - began:.1f} s"

        try:
            pools = await asyncio.to_thread(start)
            parts: list[dict[str, bool]] = [{} for _ in pools]

            def changed(node: int, loaded: dict[str, bool]) -> None:
                parts[node] = loaded
                names = dict.fromkeys(name for part in parts for name in part)
                waiting = [name for name in names if not all(part.get(name, True) for part in parts)]
                if waiting and waiting != self.waiting:
                    report(f"loading {', '.join(waiting)} ({seconds()})")
                self.waiting = waiting

            for node, each in enumerate(pools):
                each.loading = lambda loaded, node=node: changed(node, loaded)
            await asyncio.wait_for(asyncio.gather(*(each.ready() for each in pools)), MODEL_LOAD_TIMEOUT_S)
            report(f"ready ({seconds()})")
        except TimeoutError:
            report(f"ready, but not loaded in {seconds()}: {', '.join(self.waiting)}")
        except (ServiceError, ClusterError, ModelError, RayError) as error:
            log.warning("a model does not load", error=str(error).strip().splitlines()[-1][:300])
            report("ready, but not every model loads: sessions say which they lack")
        finally:
            self.waiting, self.is_over = [], True
