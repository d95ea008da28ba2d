"""The actor that keeps this node's record in the directory."""

import contextlib
import time
from collections.abc import Callable

import attrs
import structlog
import trio

from llmactors.actors import Actor, Context
from llmactors.cluster.cordon import Cordon
from llmactors.cluster.node_record import RENEW_EVERY_S, TTL_S, NodeRecord
from llmactors.cluster.node_store import NodeStore
from llmactors.errors import OperatorError, Unavailable
from llmactors.redislink.errors import reason_of

log = structlog.get_logger("llmactors.cluster")

_RETRY_S = 0.1
_REMOVE_S = 1.0


class NameTaken(OperatorError):
    """Another node of the cluster has this name."""

    def __init__(self, holder: NodeRecord) -> None:
        super().__init__(f'a node named "{holder.name}" is already running: {holder}')


@attrs.frozen
class Renew:
    """Tells the actor to write the record now, and to read the node's cordon."""


class RegistrationActor(Actor[Renew]):
    """Takes the node's name when the actor starts, renews the record every second, and removes it at the end.

    If Redis is away at the start, the name is taken when Redis is back. While Redis is away, the record is not renewed.
    If another node has the name then, `on_replaced` is called. `on_cordon` is called with the node's cordon, or None
    where there is none, at each renewal.
    """

    def __init__(
        self,
        store: NodeStore,
        describe: Callable[[], NodeRecord],
        tree: Callable[[], object],
        *,
        on_cordon: Callable[[Cordon | None], None],
        on_replaced: Callable[[NameTaken], None],
    ) -> None:
        self._store = store
        self._describe = describe
        self._tree = tree
        self._on_cordon = on_cordon
        self._on_replaced = on_replaced
        self._has_name = False

    def __repr__(self) -> str:
        return f"<RegistrationActor {self._describe().name}>"

    async def on_start(self, context: Context) -> None:
        self._ref = context.ref
        try:
            self._on_cordon(await take_name(self._store, self._present, self._tree))
            self._has_name = True
        except Unavailable as error:
            log.info("the node's record is written when Redis is back", error=reason_of(error))
        context.spawn(self._tick)

    async def on_message(self, _: Renew) -> None:
        try:
            if not self._has_name:
                await take_name(self._store, self._present, self._tree)
                self._has_name = True
            with trio.move_on_after(TTL_S):
                result = await self._store.put(self._present(), self._tree())
                if result.holder is None:
                    self._on_cordon(result.cordon)
                elif result.holder.process.is_dead():
                    # A Redis that lost its last writes has the record of this node's last process again.
                    self._on_cordon(await take_name(self._store, self._present, self._tree))
                else:
                    self._on_replaced(NameTaken(result.holder))
        except NameTaken as error:
            self._on_replaced(error)
        except Unavailable as error:
            log.debug("the node's record was not renewed because Redis is away", error=reason_of(error))

    async def on_stop(self) -> None:
        with trio.move_on_after(_REMOVE_S), contextlib.suppress(Unavailable):
            await self._store.remove(self._present())

    def _present(self) -> NodeRecord:
        return attrs.evolve(self._describe(), renewed_at=time.time())

    async def _tick(self) -> None:
        while True:
            await trio.sleep(RENEW_EVERY_S)
            await self._ref.tell(Renew())


async def take_name(
    store: NodeStore, describe: Callable[[], NodeRecord], tree: Callable[[], object] = lambda: None
) -> Cordon | None:
    """Puts a node into the directory, waits where another node's record has the name, and returns the node's cordon.

    The record of a process that is known to be dead is replaced at once. Any other holder of the name either renews
    its record, and then `NameTaken` is raised, or its record expires. Raises `errors.Unavailable` while Redis is away.
    """
    seen: NodeRecord | None = None
    dead = ""
    while True:
        result = await store.put(describe(), tree(), replaces=dead)
        holder = result.holder
        if holder is None:
            return result.cordon
        if holder.process.is_dead():
            dead = holder.incarnation
            continue
        if seen is not None and (seen.incarnation, seen.renewed_at) != (holder.incarnation, holder.renewed_at):
            raise NameTaken(holder)
        seen = holder
        await trio.sleep(_RETRY_S)
