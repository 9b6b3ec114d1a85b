"""Encoders of text, voice, faces and speakers, ASR and VAD models, and the search for their weights."""
