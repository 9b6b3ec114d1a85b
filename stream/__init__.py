"""What flows and how it gets in and out: media, segmentation, speakers, transcripts, events, the Redis bus.

For programs that receive: `stream.subscribe`, `stream.subscribe_sync`, `stream.consume`.
"""

from stream.client import consume, follow, subscribe, subscribe_sync

__all__ = ["RATE", "consume", "follow", "subscribe", "subscribe_sync"]

RATE = 16_000  # Hz; every sample array inside the system has this rate and is float32 with full scale ±1
