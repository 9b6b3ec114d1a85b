"""Redis as deploy/redis/ sets it up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.secure_redis import SecureRedis, secure_redis


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureRedis]:
    with secure_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
