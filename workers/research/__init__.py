"""Offline commands: corpora, composed conversations, the voice encoder, experts, evaluation reports, downloads."""
