"""Files that almost are what they should be: bits turned, fields rewritten, parts cut, repeated, put in elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

MANY = 1 << 24
numbers = st.sampled_from(
    [0, 1, 2, 3, 7, 8, 255, 256, 65_535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]
)
spots = st.one_of(
    st.tuples(st.just("start"), st.integers(0, 199), st.just(0)),
    st.tuples(st.just("mark"), st.integers(0, MANY), st.integers(-8, 16)),
    st.tuples(st.just("any"), st.integers(0, MANY), st.just(0)),
)
"""Places in a file: near its start, beside a four-letter name as containers put before their fields, anywhere."""

Edit = Callable[[bytes], bytes]


def _at(data: bytes, spot: tuple[str, int, int]) -> int:
    how, where, offset = spot
    marks = [found.end() for found in re.finditer(rb"[A-Za-z][A-Za-z0-9 ]{3}", data)] if how == "mark" else []
    place = marks[where % len(marks)] + offset if marks else where
    return place % max(1, len(data)) if place >= 0 else 0


def _turn(spot: Any, bit: int) -> Edit:
    def edit(data: bytes) -> bytes:
        at = _at(data, spot)
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] if data else data

    return edit


def _write(spot: Any, new: bytes) -> Edit:
    return lambda data: data[: _at(data, spot)] + new + data[_at(data, spot) + len(new) :]


def _insert(spot: Any, new: bytes) -> Edit:
    return lambda data: data[: _at(data, spot)] + new + data[_at(data, spot) :]


def _cut(spot: Any) -> Edit:
    return lambda data: data[: _at(data, spot)]


def _drop(spot: Any, size: int) -> Edit:
    return lambda data: data[: _at(data, spot)] + data[_at(data, spot) + size :]


def _again(spot: Any, size: int, times: int) -> Edit:
    def edit(data: bytes) -> bytes:
        at = _at(data, spot)
        return data[:at] + data[at : at + size] * times + data[at + size :]

    return edit


def _splice(spot: Any, other: bytes, there: Any, size: int) -> Edit:
    def edit(data: bytes) -> bytes:
        at, start = _at(data, spot), _at(other, there)
        return data[:at] + other[start : start + size] + data[at:]

    return edit


def mutated(seeds: Sequence[bytes], words: Sequence[bytes] = (), longest: int = 1 << 18) -> SearchStrategy[bytes]:
    """One of `seeds` after one to four edits; `words` are bytes that mean something there."""
    seed = st.integers(0, len(seeds) - 1).map(seeds.__getitem__)  # whose repr, unlike that of all seeds, is short
    sizes = st.integers(1, 64) | st.integers(1, 8192)
    fields = st.builds(
        lambda value, width, order: (value % (1 << 8 * width)).to_bytes(width, order),
        numbers | st.integers(0, (1 << 32) - 1),
        st.sampled_from([1, 2, 3, 4, 8]),
        st.sampled_from(["big", "little"]),
    )
    pieces = fields | st.binary(min_size=1, max_size=16)
    if words:
        pieces = st.sampled_from(words) | pieces
    edits: SearchStrategy[Edit] = st.one_of(
        st.builds(_turn, spots, st.integers(0, 7)),
        st.builds(_write, spots, pieces),
        st.builds(_insert, spots, pieces),
        st.builds(_cut, spots),
        st.builds(_drop, spots, sizes),
        st.builds(_again, spots, sizes, st.integers(2, 50)),
        st.builds(_splice, spots, seed, spots, sizes),
    )

    def apply(data: bytes, chosen: list[Edit]) -> bytes:
        for edit in chosen:
            data = edit(data)[:longest]
        return data

    return st.builds(apply, seed, st.lists(edits, min_size=1, max_size=4))


NASTY = (
    "nan", "inf", "-inf", "-1", "-0.0", "1e999", "1e308", "0", "²", "٣", "\x00", "\x0b", "\x1b[2J", "\x85", "\u2028",
    "\ufeff", "\r", "\n", "\t", " ", ",", ";", ";;", '"', "'", "\\", "-->", "<v x>", "<", ">", "&", "None", "null",
    "True", "{", "[]", "9" * 400, "x" * 2000, "😀", "\u202e",
)  # fmt: skip
WORDS = (*(word.encode() for word in NASTY), b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe")
"""Pieces of text that parsers stumble over."""

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(NASTY),
    st.sampled_from([0, 1, -1, 2**31, 2**53, 2**64, 10**30, 1e308, 1e-320]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
"""What JSON can hold, NaN and Infinity, which Python writes and reads, included."""


def altered(documents: Sequence[Any]) -> SearchStrategy[Any]:
    """One of the JSON `documents` with one or two places in it replaced, taken out, or added to."""
    changes = st.tuples(
        st.lists(st.integers(0, 40), min_size=1, max_size=4), st.sampled_from(["put", "out", "add"]), values
    )

    def change(node: Any, path: list[int], how: str, value: Any) -> Any:
        if path and isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[path[0] % len(keys)]
            if how == "out" and len(path) == 1:
                kept = [each for each in keys if each != key]
                return {each: node[each] for each in kept} if isinstance(node, dict) else [node[each] for each in kept]
            inside = change(node[key], path[1:], how, value)
            if isinstance(node, dict):
                return node | {key: inside}
            return [*node[:key], inside, *node[key + 1 :]]
        if how == "add" and isinstance(node, dict):
            return node | {str(value)[:8]: value}
        if how == "add" and isinstance(node, list):
            return [*node, value]
        return value

    def apply(document: Any, chosen: list[tuple[list[int], str, Any]]) -> Any:
        for path, how, value in chosen:
            document = change(document, path, how, value)
        return document

    return st.builds(apply, st.sampled_from(documents), st.lists(changes, min_size=1, max_size=2))
