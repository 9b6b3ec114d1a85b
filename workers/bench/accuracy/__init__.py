"""How well it recognizes: VAD, diarization, ASR, languages, voices, faces, whole conversations."""
