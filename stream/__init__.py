"""Media, segmentation and events of conversations, and their transport over Redis.

For programs that receive events: `subscribe`, `subscribe_sync`, `follow`, `consume` and `make_group`, and the types of
the events.
Importing this package is light; each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stream.bus.connection import BusError, SessionNotFound
    from stream.bus.subscriber import consume, follow, make_group, subscribe, subscribe_sync
    from stream.events import (
        Alert,
        Degraded,
        Emotion,
        Event,
        EventsMissed,
        Lag,
        Latency,
        Modalities,
        SessionEnded,
        SessionStarted,
        SpeakerMerged,
        UtteranceFailed,
        UtteranceHeard,
        UtterancePartial,
        Visual,
        Word,
        parse,
    )

__all__ = [
    "Alert",
    "BusError",
    "Degraded",
    "Emotion",
    "Event",
    "EventsMissed",
    "Lag",
    "Latency",
    "Modalities",
    "SessionEnded",
    "SessionNotFound",
    "SessionStarted",
    "SpeakerMerged",
    "UtteranceFailed",
    "UtteranceHeard",
    "UtterancePartial",
    "Visual",
    "Word",
    "consume",
    "follow",
    "make_group",
    "parse",
    "subscribe",
    "subscribe_sync",
]

_HOMES = dict.fromkeys(("consume", "follow", "make_group", "subscribe", "subscribe_sync"), "stream.bus.subscriber")
_HOMES |= dict.fromkeys(("BusError", "SessionNotFound"), "stream.bus.connection")


def __getattr__(name: str) -> Any:
    """Load an exported name on first use, so that a block of samples needs neither pydantic nor a Redis client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "stream.events")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
