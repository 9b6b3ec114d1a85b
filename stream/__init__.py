"""What flows and how it gets in and out: media, segmentation, speakers, transcripts, events, the Redis bus."""

RATE = 16_000  # Hz; every sample array inside the system has this rate and is float32 with full scale ±1
