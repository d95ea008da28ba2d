"""The actor of a node that exports traces."""

from typing import Protocol

import structlog
import trio

from llmactors.actors import Actor, Context

log = structlog.get_logger("llmactors")

_LOOK_EVERY_S = 1.0
_FLUSH_S = 2.0
"""How long the end of a node waits for a collector, in seconds."""


class WatchedExport(Protocol):
    """What the actor needs of an export."""

    @property
    def trouble(self) -> str:
        """Why the last export failed; empty where it succeeded."""
        ...

    def flush(self) -> None:
        """Exports what waits. Waits for the collector."""
        ...


class TracingActor(Actor):
    """Logs one line when the collector takes no spans any more, and one when it takes spans again.

    The spans that wait at the actor's end are exported.
    """

    def __init__(self, export: WatchedExport) -> None:
        self._export = export

    async def on_start(self, context: Context) -> None:
        context.spawn(self._watch)

    async def on_stop(self) -> None:
        with trio.move_on_after(_FLUSH_S):
            await trio.to_thread.run_sync(self._export.flush, abandon_on_cancel=True)

    async def _watch(self) -> None:
        was_failing = False
        while True:
            trouble = self._export.trouble
            if trouble and not was_failing:
                log.warning("traces are lost: the collector takes no spans; requests go on as before", reason=trouble)
            if was_failing and not trouble:
                log.info("the collector takes spans again")
            was_failing = bool(trouble)
            await trio.sleep(_LOOK_EVERY_S)
