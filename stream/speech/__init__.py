"""Segmentation of blocks into utterances: VAD, endpointing, annotated turns and transcripts, speaker clustering."""
