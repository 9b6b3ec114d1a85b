"""Benchmarks of this installation, one module for each."""

from pathlib import Path

DEMO = Path(__file__).parents[1] / "demo" / "conversation.opus"
