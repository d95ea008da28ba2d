"""Several choices of one call in one stream, each from a log of its own."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from llmactors.gateway.openai.choices import bare_errors
from llmactors.gateway.openai.render import ChunkRenderer, add_up, error_of
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.pump import pieces, pump
from llmactors.gateway.streaming.resuming import Reached, catch_up, last_seq
from llmactors.http.exchange import Exchange
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import Finished, Usage


class SeveralChoices:
    """Sends the choices of one call. `begin` sends the head of the response, unless it was sent before."""

    def __init__(
        self,
        service: RequestService,
        exchange: Exchange,
        followers: Sequence[Follower],
        renderers: Sequence[ChunkRenderer],
        begin: Callable[[], Awaitable[None]],
    ) -> None:
        self._service = service
        self._exchange = exchange
        self._followers = followers
        self._renderers = renderers
        self._begin = begin
        self._turn = trio.Lock()
        self._seqs = [0] * len(followers)
        """The seq of the last entry of each choice that was written."""
        self._usages: dict[int, Usage] = {}
        """The usage of each choice that has ended."""
        for renderer in renderers:
            renderer.is_last = False

    def __repr__(self) -> str:
        return f"<SeveralChoices of {self._exchange.request_id} at {self._seqs}>"

    async def run(self) -> None:
        """Sends all choices to their ends. Raises the error of the first one that fails."""
        taken: Sequence[LogSlice | None] = [None] * len(self._followers)
        if (reached := self._exchange.reached) is not None:
            taken = await self._resume(Reached.parse(reached, len(self._followers)))
        with bare_errors():
            async with trio.open_nursery() as nursery:
                for index, first in enumerate(taken):
                    if index not in self._usages:
                        nursery.start_soon(self._follow, index, first)
        usage = add_up([*self._usages.values()])
        await self._exchange.write(self._renderers[0].render_end(usage), more=False)

    async def _resume(self, reached: Reached) -> list[LogSlice | None]:
        """Brings each choice to where the client is. Returns what was taken of the logs behind that."""

        def render(index: int, part: LogSlice) -> None:
            self._renderers[index].render(part)
            self._note_end(index, part)

        await self._begin()
        self._seqs = [*reached.seqs]
        taken = [
            await catch_up(follower, seq, partial(render, index))
            for index, (follower, seq) in enumerate(zip(self._followers, self._seqs, strict=True))
        ]
        await self._exchange.resume()
        return taken

    async def _follow(self, index: int, first: LogSlice | None) -> None:
        for part in () if first is None else pieces(first):
            await self._write(index, part)
        if index not in self._usages:
            write = partial(self._write, index)
            await pump(self._followers[index], write, self._keep_alive, self._service.settings.timing)

    async def _write(self, index: int, part: LogSlice) -> None:
        self._service.metrics.tokens_generated(len(part.deltas))
        if part.end is not None and (error := error_of(part.end)) is not None:
            raise error
        async with self._turn:
            await self._begin()
            self._seqs[index] = last_seq(part)
            self._exchange.note_reached(Reached(tuple(self._seqs)).note())
            await self._exchange.write(self._renderers[index].render(part))
        self._note_end(index, part)

    async def _keep_alive(self) -> None:
        async with self._turn:
            await self._begin()
            await self._exchange.write(self._renderers[0].keep_alive)

    def _note_end(self, index: int, part: LogSlice) -> None:
        if isinstance(part.end, Finished):
            self._usages[index] = part.end.usage
