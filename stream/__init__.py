"""What flows and how it gets in and out: media, segmentation, speakers, transcripts, events, the Redis bus.

For programs that receive: `stream.subscribe`, `stream.subscribe_sync`, `stream.follow` and `stream.consume`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream.bus.subscriber import consume, follow, subscribe, subscribe_sync

__all__ = ["consume", "follow", "subscribe", "subscribe_sync"]


def __getattr__(name: str) -> Any:
    """Imported when they are asked for: a block of samples needs no Redis client."""
    if name in __all__:
        return getattr(import_module("stream.bus.subscriber"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
