"""The cost of reading a pickle, found from its operations before any of them is executed.

An object that is stored once can stand in many places, so a few hundred bytes may describe a tree of billions, and
what walks it (the hash of a key that is made of tuples, a copy into an array) never ends.
"""

from __future__ import annotations

import pickle
import pickletools
from dataclasses import dataclass, field

MAX_VISITS_PER_BYTE = 10
"""Limit of objects, counted in each place where they stand: an object takes at least a byte, a repeated one two."""
BASE_VISITS = 10_000
BYTES_PER_VISIT = 16  # of a text, which is copied with each place where it stands
MARK = "mark"


@dataclass(eq=False)
class _Object:
    """An object that the pickle would make: what is in it, and its own cost in visits."""

    parts: list[_Object] = field(default_factory=list)
    cost: int = 1


_LEAF = _Object()  # any number or short text


class _Budget:
    """Visits of objects that are left."""

    def __init__(self, size: int) -> None:
        self._left = BASE_VISITS + MAX_VISITS_PER_BYTE * size

    def spend(self, visited: list[_Object]) -> None:
        """Visit objects with all that is in them. Raises UnpicklingError when that takes too many visits."""
        stack = list(visited)
        while stack:
            each = stack.pop()
            self._left -= each.cost
            if self._left < 0:
                raise pickle.UnpicklingError("it takes too long: its objects stand in one another too often")
            stack += each.parts


def check_cost(content: bytes) -> None:
    """Raises UnpicklingError for a pickle that costs far more than its size, and ValueError for one that is broken."""
    budget = _Budget(len(content))
    stack: list[_Object | str] = []
    memo: dict[object, _Object] = {}
    for operation, argument, _ in pickletools.genops(content):
        name = operation.name
        # The unpickler allocates n places to memoize an object at place n: five bytes could fill the memory.
        if name.endswith("PUT") and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"it wants room for {argument} objects")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = _top(stack)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise pickle.UnpicklingError(f"it wants object {argument}, which is not there")
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(MARK)
        elif name == "DUP":
            stack.append(_top(stack))
        elif name == "POP":
            stack.pop()
        else:
            taken = _take(stack, operation)
            _apply(operation, argument, taken, stack, budget)
    budget.spend([each for each in stack if isinstance(each, _Object)])


def _top(stack: list[_Object | str]) -> _Object:
    if not stack or not isinstance(stack[-1], _Object):
        raise pickle.UnpicklingError("it takes an object where there is none")
    return stack[-1]


def _take(stack: list[_Object | str], operation: pickletools.OpcodeInfo) -> list[_Object]:
    """Take from the stack what an operation takes: so many objects, or all from the last mark and so many below."""
    before = operation.stack_before
    taken: list[_Object] = []
    count = len(before)
    if pickletools.markobject in before:
        count = before.index(pickletools.markobject)
        while stack and isinstance(last := stack.pop(), _Object):
            taken.append(last)
    if operation.name == "STOP":
        count = 0
    for _ in range(count):
        taken.append(_top(stack))
        stack.pop()
    return taken[::-1]


def _apply(
    operation: pickletools.OpcodeInfo,
    argument: object,
    taken: list[_Object],
    stack: list[_Object | str],
    budget: _Budget,
) -> None:
    """Put the result of an operation on the stack, and spend the visits that it would take."""
    name = operation.name
    if name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"):
        container, *parts = taken
        if container is _LEAF:
            raise pickle.UnpicklingError("it puts something into a number")
        container.parts += parts
        if name.startswith("SETITEM"):
            budget.spend(parts[::2])  # keys are hashed
        elif name == "ADDITEMS":
            budget.spend(parts)
        stack.append(container)
    elif operation.stack_after:
        if name == "DICT":
            budget.spend(taken[::2])
        elif name in ("FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"):
            budget.spend(taken)  # a set of them, maybe
        size = len(argument) if isinstance(argument, str | bytes) else 0
        is_constant = not operation.stack_before and name not in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET")
        is_leaf = is_constant and size < BYTES_PER_VISIT
        stack.append(_LEAF if is_leaf else _Object(taken, 1 + size // BYTES_PER_VISIT))
