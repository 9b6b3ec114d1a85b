"""From blocks to utterances: VAD, endpointing, given turns and transcripts, clusters of speakers."""
