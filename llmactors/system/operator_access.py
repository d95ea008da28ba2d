"""The shared parts of a cluster for a program that is no node of the cluster, as the commands of operators are."""

import contextlib
from collections.abc import AsyncIterator

import trio

from llmactors.access.keys.redis import RedisKeyStore
from llmactors.cluster.known_models import KnownModels
from llmactors.cluster.node_store import NodeStore
from llmactors.config import Settings
from llmactors.ledger import Ledger
from llmactors.redislink.link import RedisLink
from llmactors.system.ledger_shards import LedgerShards, redis_urls
from llmactors.system.wiring import ledger_settings

_NAME = "llmactors-cli"
"""The name of the connections, which `CLIENT LIST` in Redis shows."""


@contextlib.asynccontextmanager
async def cluster_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger of the cluster that `settings` name. Raises `ConfigError` if they name no cluster."""
    shards = LedgerShards(settings, ledger_settings(settings), name=_NAME)
    async with trio.open_nursery() as nursery:
        await nursery.start(shards.run)
        yield shards.whole
        nursery.cancel_scope.cancel(reason="the program needs the ledger no more")


@contextlib.asynccontextmanager
async def cluster_nodes(settings: Settings) -> AsyncIterator[NodeStore]:
    """The node directory of the cluster that `settings` name. Raises `ConfigError` if they name no cluster."""
    async with _link(settings) as link:
        yield NodeStore(link.call, settings.namespace)


@contextlib.asynccontextmanager
async def cluster_models(settings: Settings) -> AsyncIterator[tuple[KnownModels, NodeStore]]:
    """The declared models of the cluster that `settings` name, and its node directory. Raises as `cluster_nodes`."""
    async with _link(settings) as link:
        yield KnownModels(link.call, settings.namespace), NodeStore(link.call, settings.namespace)


@contextlib.asynccontextmanager
async def cluster_keys(settings: Settings) -> AsyncIterator[RedisKeyStore]:
    """The API keys of the cluster that `settings` name. Raises `ConfigError` if they name no cluster."""
    async with _link(settings) as link:
        yield RedisKeyStore(link.call, settings.namespace)


@contextlib.asynccontextmanager
async def _link(settings: Settings) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_urls(settings)[0], name=_NAME, tag=settings.namespace)
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel(reason="the program needs the link no more")
