"""Faults on purpose, with seeds: what is lost, doubled or out of order, and how long recovery takes."""
