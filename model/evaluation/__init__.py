"""Scores of checkpoints, and studies of what each part of the network is worth."""
