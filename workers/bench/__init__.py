"""Benchmarks of this installation, one module for each."""

from pathlib import Path

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "conversation.opus"
