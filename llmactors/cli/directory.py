"""The node directory of a cluster, for the commands that read it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import trio

from llmactors.cluster.node_store import NodeStore
from llmactors.config import Settings
from llmactors.redislink.link import RedisLink
from llmactors.system.cluster_node import redis_url

T = TypeVar("T")


def with_directory(settings: Settings, work: Callable[[NodeStore], Awaitable[T]]) -> T:
    """Runs `work` on the node directory of the cluster that `settings` name. Raises `ConfigError` if they name no
    cluster.
    """

    async def run() -> T:
        async with _directory(settings) as store:
            return await work(store)

    return trio.run(run)


@contextlib.asynccontextmanager
async def _directory(settings: Settings) -> AsyncIterator[NodeStore]:
    link = RedisLink(redis_url(settings), name="llmactors-cli")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield NodeStore(link.call, settings.namespace)
        nursery.cancel_scope.cancel(reason="the command is done")
