"""A bounded number of slow requests at once, of which each token has a share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from workers.gateway.access import Refused, Token


class Places:
    """Places for requests of one kind."""

    def __init__(self, kind: str, total: int, per_token: int, retry_after_s: int) -> None:
        """kind: a plural, for refusals; total, per_token: requests at once; retry_after_s: when to ask again."""
        self._kind, self._total, self._per_token, self._retry_after_s = kind, total, per_token, retry_after_s
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, token: Token) -> Iterator[None]:
        """Hold a place for as long as the context lasts. Raises Refused: 429 if the token, 503 if the gateway has none
        left."""
        if self._taken[token.name] >= self._per_token:
            at_most = f"token {token.name}: at most {self._per_token} {self._kind} at once; try again"
            raise Refused(429, at_most, self._retry_after_s)
        if self._taken.total() >= self._total:
            all_taken = f"this gateway takes {self._total} {self._kind} at once, and has as many; try again"
            raise Refused(503, all_taken, self._retry_after_s)
        self._taken[token.name] += 1
        try:
            yield
        finally:
            self._taken[token.name] -= 1
