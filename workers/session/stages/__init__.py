"""The stages of a session: segment (`stream.speech.segmentation`), admit, understand, label, publish.

Each has its own state, with what it leaves for another process and takes back from one.
"""
