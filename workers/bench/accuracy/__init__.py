"""Accuracy: VAD, diarization, ASR, language detection, voice, faces, whole conversations."""
