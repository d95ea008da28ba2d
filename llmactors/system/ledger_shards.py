"""The ledger of a cluster, on one server or on several: one shard for each URL of the setting `redis`."""

import itertools
import math

import attrs
import trio

from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.ledger import LedgerSettings
from llmactors.ledger.redis import LEDGER_LINK, RedisLedger, RedisLedgerSettings
from llmactors.ledger.sharded import Placement, ShardedLedger
from llmactors.redislink.settings import LinkSettings
from llmactors.redislink.several import is_cluster, split_urls
from llmactors.redislink.slots import SLOTS, slot_of


class LedgerShards:
    """The ledgers in Redis, and `whole`, the ledger over all of them. A single ledger is the whole by itself."""

    def __init__(
        self, settings: Settings, bounds: LedgerSettings, *, name: str, link_settings: LinkSettings = LEDGER_LINK
    ) -> None:
        urls = redis_urls(settings)
        count = len(urls)
        names = namespaces(settings.namespace, count, clustered=is_cluster(urls[0]))
        self.parts = tuple(
            RedisLedger(
                url,
                part_of(bounds, count),
                RedisLedgerSettings(namespace=names[number]),
                link_settings=link_settings,
                name=name if count == 1 else f"{name}-{number}",
                shard=(number, count),
            )
            for number, url in enumerate(urls)
        )
        self._sharded = ShardedLedger(self.parts, bounds) if count > 1 else None
        self.whole: RedisLedger | ShardedLedger = self._sharded or self.parts[0]
        self.placement: Placement | None = self._sharded.placement if self._sharded else None
        """Chooses the ids of requests; None where there is nothing to choose."""

    def __repr__(self) -> str:
        return f"<LedgerShards {self.whole!r}>"

    @property
    def link_names(self) -> tuple[str, ...]:
        """The name of the link of each part, for logs and metrics."""
        if len(self.parts) == 1:
            return ("ledger",)
        return tuple(f"ledger-{number}" for number in range(len(self.parts)))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled. Raises what prevents a first connection, as `RedisLedger.run`."""
        if self._sharded is None:
            await self.parts[0].run(task_status=task_status)
            return
        async with trio.open_nursery() as nursery:
            for part in self.parts:
                await nursery.start(part.run)
            await nursery.start(self._sharded.run)
            task_status.started()


def redis_urls(settings: Settings) -> list[str]:
    """The URL of each shard's Redis. Raises `ConfigError` where the settings name none."""
    if not settings.redis:
        raise ConfigError("say where Redis is: --redis redis://HOST:PORT, or LLMACTORS_REDIS")
    return split_urls(settings.redis)


def namespaces(namespace: str, shards: int, *, clustered: bool) -> list[str]:
    """The namespaces of the shards, which are hash tags.

    On servers of their own, all have the namespace itself, so that a server that was another shard is noticed. In a
    Redis Cluster, the tags are chosen so that the slots are spread evenly: where the masters have equal ranges of
    slots, as after `redis-cli --cluster create`, each of as many shards is on a master of its own.
    """
    if not clustered or shards == 1:
        return [namespace] * shards
    found: list[str] = []
    for shard in range(shards):
        tags = (f"{namespace}:{shard}.{number}" for number in itertools.count())
        found.append(next(tag for tag in tags if slot_of(tag) * shards // SLOTS == shard))
    return found


def part_of(bounds: LedgerSettings, shards: int) -> LedgerSettings:
    """The bounds of each of so many shards, which together have those of the ledger."""
    if shards == 1:
        return bounds
    names = (
        "max_queued",
        "max_queued_bytes",
        "retained_max",
        "retained_tokens_max",
        "dead_letters_kept",
        "usage_records_max",
        "conversations_max",
    )
    return attrs.evolve(bounds, **{name: math.ceil(getattr(bounds, name) / shards) for name in names})
