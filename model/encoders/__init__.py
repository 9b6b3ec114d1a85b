"""Encoders of text, voice, faces and speakers, ASR and VAD models, and where their weights lie."""
