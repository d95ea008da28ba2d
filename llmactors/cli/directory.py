"""What the commands share that look into a cluster's node directory."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import trio

from llmactors.cluster.node_store import NodeStore
from llmactors.config import load
from llmactors.redislink import RedisLink
from llmactors.system.cluster_node import redis_url

T = TypeVar("T")


def with_directory(redis: str | None, namespace: str | None, work: Callable[[NodeStore], Awaitable[T]]) -> T:
    """Runs `work` on the directory of that cluster."""

    async def run() -> T:
        async with _directory(redis, namespace) as store:
            return await work(store)

    return trio.run(run)


@contextlib.asynccontextmanager
async def _directory(redis: str | None, namespace: str | None) -> AsyncIterator[NodeStore]:
    settings = load({"redis": redis, "namespace": namespace})
    link = RedisLink(redis_url(settings), name="llmactors-cli")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield NodeStore(link.call, settings.namespace)
        nursery.cancel_scope.cancel(reason="the command is done")
