"""Ledgers in memory as the shards of one ledger. A test takes a shard away, and brings it back."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import trio

from llmactors.errors import Unavailable
from llmactors.ledger import LedgerSettings, MemoryLedger
from llmactors.ledger.values import QueueView

_FOR_GATEWAYS = {"submit", "admit", "now_ms", "expected_wait_s", "places", "info", "read", "follow", "cancel", "forget"}
_WAITS = {"beat", "leave", "claim", "preempt", "append", "finish", "release", "reap"}
_SYNCHRONOUS = {"wait_work", "handed", "has_open_slots"}


class MemoryShard:
    """A ledger in memory that can be away, as one in Redis: workers' operations then wait, and others fail."""

    def __init__(self, settings: LedgerSettings, **clocks: Callable[[], Any]) -> None:
        self.memory = MemoryLedger(settings, **clocks)
        self.settings = settings
        self._back = trio.Event()
        self._back.set()
        self._claimers: dict[str, set[str]] = {}
        self.knows_it_is_away = True
        """Whether the process has noticed that the shard is away."""

    @property
    def is_up(self) -> bool:
        return self._back.is_set() or not self.knows_it_is_away

    @property
    def due_in_s(self) -> float:
        return self.memory.due_in_s

    async def wait_up(self) -> None:
        await self._back.wait()

    def go_away(self, *, noticed: bool = True) -> None:
        """Takes the shard away until `come_back`."""
        self.knows_it_is_away = noticed
        self._back = trio.Event()

    def come_back(self) -> None:
        """Brings the shard back, with all that it had."""
        self._back.set()

    async def queue_view(self, worker: str, model: str) -> QueueView:
        shares = await self.memory.queue_shares([model])
        claimers = self._claimers.setdefault(model, set())
        claimers.add(worker)
        return QueueView(Counter(share.priority for share in shares), {}, sorted(claimers))

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.memory, name)
        if name in _WAITS:
            return self._once_back(operation)
        if name in _SYNCHRONOUS:
            return operation
        return self._unless_away(operation)

    def _once_back(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            await self._back.wait()
            return await operation(*args, **options)

        return call

    def _unless_away(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            if not self._back.is_set():
                raise Unavailable("the ledger is away", retry_after_s=1.0)
            return await operation(*args)

        return call
