"""Bad input of every kind, by the hundred thousand: `python -m tests.fuzz`, or `make fuzz`.

A module a target: what comes in (a Hypothesis strategy), and the code of ours that takes it. `tests/fuzz/test_short.py`
runs a few of each in the ordinary suite, `tests/fuzz/test_found.py` has what was found.
"""
