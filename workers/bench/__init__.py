"""Measurements of this installation; a module a benchmark."""
