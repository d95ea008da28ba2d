"""The requests that one API call becomes, one for each of its `n` choices."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import attrs
import trio

from llmactors.access.authentication import Caller
from llmactors.actors import fatal
from llmactors.errors import LlmactorsError
from llmactors.gateway.admitted_calls import Admission
from llmactors.gateway.body import GenerationBody
from llmactors.gateway.openai.render import error_of
from llmactors.gateway.queue_places import QueueWatch
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.begun_stream import BegunStream
from llmactors.http.exchange import Exchange, Header
from llmactors.ledger import Follower, LogSlice


@attrs.define
class AdmittedChoices:
    """The requests of one call. A client that disconnects before its answer cancels all of them."""

    _service: RequestService
    admissions: list[Admission] = attrs.field(factory=list)
    followers: list[Follower] = attrs.field(factory=list)
    answered: bool = False
    _watch: QueueWatch | None = None
    """Of the last request: the requests of one call wait one after the other."""
    _open: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    async def admit(
        self, exchange: Exchange, caller: Caller, bodies: Sequence[GenerationBody], session: str = ""
    ) -> None:
        """Admits the requests of the call. Raises as `RequestService.admit_all`."""
        key, trace = exchange.idempotency_key, self._service.trace(exchange)
        self.admissions = await self._service.admit_all(
            caller, bodies, key, session=session, trace=trace, held=exchange.held
        )
        first = self.admissions[0].request
        exchange.request_id, exchange.model = first.id, first.model
        for admission in self.admissions:
            self.followers.append(self._open.enter_context(await self._service.own_follower(admission)))
        self._watch = self._open.enter_context(self._service.places.watched(self.admissions[-1].request.id))

    def take_up(self, begun: BegunStream) -> None:
        """In place of `admit`, for the only request of a call that an earlier gateway has admitted."""
        self.admissions = [Admission(begun.note.request, keyed=begun.note.keyed)]
        self.followers = [self._open.enter_context(begun.follower)]

    async def wait_logs(self, exchange: Exchange, *, counts_tokens: bool) -> list[LogSlice] | None:
        """The complete logs; None where the client has disconnected, which is noted as the status 499.

        The first request that fails ends the call, since an answer needs all of them; the others are cancelled.

        Args:
            exchange: The call.
            counts_tokens: Whether the metrics count the entries of the logs as tokens of answers.

        Raises:
            LlmactorsError: The error of the first request that failed, or that the gateway stops.
        """
        logs = [LogSlice(1, ())] * len(self.followers)

        async def wait(index: int, follower: Follower) -> None:
            await follower.wait_end()
            log = logs[index] = follower.take()
            if counts_tokens:
                self._service.metrics.tokens_generated(len(log.deltas))
            if log.end is not None and (error := error_of(log.end)) is not None:
                raise error

        async def wait_all() -> None:
            async with trio.open_nursery() as nursery:
                for index, follower in enumerate(self.followers):
                    nursery.start_soon(wait, index, follower)

        connected = False
        with bare_errors(), self._service.cuttable():
            connected = await exchange.while_connected(wait_all)
        if not connected:
            exchange.status = 499
        return logs if connected else None

    @property
    def headers(self) -> list[Header]:
        """The headers of the caller's limits, and of the place in the queue where the call had to wait."""
        queue_headers = [] if self._watch is None else self._watch.headers
        return [*self.admissions[-1].headers, *queue_headers]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if not self.answered:
                # Shielded, because a cancelled handler must free its slots too. The time limit bounds the wait.
                with trio.move_on_after(1.0, shield=True):
                    for admission in self.admissions:
                        if admission.keyed:
                            continue
                        await self._service.abandon(admission.request.id)
        finally:
            self._open.close()


@contextlib.contextmanager
def bare_errors() -> Iterator[None]:
    """Raises the first `LlmactorsError` of an exception group without the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours: Any = group.subgroup(LlmactorsError)
        if ours is None or fatal(group) is not None:
            raise
        while isinstance(ours, BaseExceptionGroup):
            ours = ours.exceptions[0]
        raise ours from None
