"""Encoders and the fusion-GCN, as plain functions and modules over arrays. No I/O but checkpoints and data sets."""
