"""The operations of a gateway on requests, for every API family: admit, follow, cancel.

The service raises `errors.LlmactorsError`; each API family renders errors in its own form.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import trio

from llmactors.access.authentication import Authenticator, Caller
from llmactors.backends.directory import ModelDirectory
from llmactors.errors import NotFound, Unavailable
from llmactors.gateway.access_log import AccessLog
from llmactors.gateway.admission import Admitter, models_for
from llmactors.gateway.admitted_calls import Admission
from llmactors.gateway.body import BodyReader, GenerationBody
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.outages import Outages
from llmactors.gateway.queue_hint import QueueHint
from llmactors.gateway.queue_places import QueuePlaces
from llmactors.gateway.request_trace import RequestTrace, trace_exchange
from llmactors.gateway.settings import GatewaySettings
from llmactors.gateway.streaming.flusher import Flusher
from llmactors.gateway.streaming.resuming import split
from llmactors.gateway.whole_answers import WholeAnswers
from llmactors.http.exchange import Exchange
from llmactors.http.held_request import HeldCall
from llmactors.ledger import Follower, Ledger, LedgerStatistics, LogSlice, ModelDemand, RequestInfo
from llmactors.ledger.sharded.placement import Placement
from llmactors.messages import Finished
from llmactors.telemetry import Metrics
from llmactors.telemetry.tracing.tracer import Tracer


class RequestService:
    """The requests of one gateway incarnation. A task must run `run`.

    Beside the parts of a gateway, the service takes `cordon`, which returns why the node takes no requests, or an empty
    text where the node has no cordon; `open_streams`, a set that gets a scope for each answer that is under way;
    `tracer`, which is None where the node exports no traces; the `placement` of a ledger with shards; and `wait_up`,
    which returns once the node has joined its cluster, and knows of a cordon; None for a node that need not wait.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        ledger: Ledger,
        directory: ModelDirectory,
        metrics: Metrics,
        limit_check: LimitCheck,
        ledger_is_up: Callable[[], bool] = lambda: True,
        ledger_is_whole: Callable[[], bool] = lambda: True,
        queue_hint: QueueHint | None = None,
        auth: Authenticator | None = None,
        cordon: Callable[[], str] = lambda: "",
        open_streams: set[trio.CancelScope] | None = None,
        access_log: AccessLog | None = None,
        tracer: Tracer | None = None,
        placement: Placement | None = None,
        wait_up: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.directory = directory
        self.flusher = Flusher(settings.timing, metrics)
        """Writes for all SSE streams."""
        self.bodies = BodyReader(settings)
        self.whole_answers = WholeAnswers()
        self.auth = auth or Authenticator(None)
        """Says who calls, and issues tickets for WebSockets."""
        self.outages = Outages(ledger_is_whole)
        """Waits for the ledger, for requests that an earlier gateway has accepted."""
        self._admitter = Admitter(
            settings,
            ledger=ledger,
            directory=directory,
            metrics=metrics,
            limit_check=limit_check,
            queue_hint=queue_hint,
            outages=self.outages,
            check_takes_work=self.check_takes_work,
            placement=placement,
        )
        self._ledger = ledger
        self._ledger_is_up = ledger_is_up
        self.tracer = tracer
        self._queue_hint = queue_hint
        self.places = QueuePlaces(ledger.places, directory)
        """Tells waiting clients their place in the queue."""
        self._draining = trio.Event()
        self.access_log = access_log or AccessLog(ledger)
        """Takes a line for each request that ends."""
        self._cordon = cordon
        self._wait_up = wait_up
        self._open: set[trio.CancelScope] = set() if open_streams is None else open_streams

    def __repr__(self) -> str:
        return f"<RequestService {'draining' if self.draining else 'open'} models={self.directory.names}>"

    async def run(self) -> None:
        """Writes for all SSE streams, asks for the places of waiting requests, and keeps the queue hint up to date,
        until cancelled.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.flusher.run)
            nursery.start_soon(self.places.run)
            if self._queue_hint is not None:
                nursery.start_soon(self._queue_hint.run)

    # Requests.

    async def admit(
        self,
        caller: Caller,
        body: GenerationBody,
        key: str | None = None,
        *,
        only_known: bool = False,
        session: str = "",
        trace: RequestTrace | None = None,
        held: HeldCall | None = None,
    ) -> Admission:
        """Puts a request into the ledger. When this returns, the request is accepted: it will end exactly once.

        `key` is the caller's idempotency key, `session` the client's name of the conversation, and `held` the call on
        a connection that outlives this process. Raises as `Admitter.admit_all`.
        """
        [admission] = await self.admit_all(
            caller, [body], key, only_known=only_known, session=session, trace=trace, held=held
        )
        return admission

    async def admit_all(
        self,
        caller: Caller,
        bodies: Sequence[GenerationBody],
        key: str | None = None,
        *,
        only_known: bool = False,
        session: str = "",
        trace: RequestTrace | None = None,
        held: HeldCall | None = None,
    ) -> list[Admission]:
        """Admits all of the requests of one call, or none of them. Raises as `Admitter.admit_all`."""
        context = None if trace is None else trace.context
        admissions = await self._admitter.admit_all(
            caller, bodies, key, only_known=only_known, session=session, trace=context, held=held
        )
        if trace is not None:
            trace.admitted([admission.request for admission in admissions])
        return admissions

    async def was_admitted(self, caller: Caller, exchange: Exchange) -> bool:
        """Whether an earlier gateway has admitted the one request of this call, which `admit` finds whatever the body
        says.
        """
        return await self._admitter.admitted.before(caller, 1, exchange.idempotency_key, exchange.held) is not None

    def trace(self, exchange: Exchange) -> RequestTrace | None:
        """The trace of a call that asks for admission; None where this node exports no traces."""
        return None if self.tracer is None else trace_exchange(self.tracer, exchange)

    def keyed_id(self, caller: Caller, key: str) -> str:
        """The id of the first request of the caller's call with this idempotency key."""
        return self._admitter.placing.keyed_id(caller.tenant, key)

    async def follow(self, caller: Caller, request_id: str, after: int) -> tuple[RequestInfo, Follower | None]:
        """The state of one of the caller's streams, and a reader of the stream; no reader if the stream has ended and
        nothing comes after `after`.

        Raises `NotFound`, also for another tenant's stream, or `Expired`.
        """
        info = await self.info(caller, request_id)
        if info.state == "ended" and after >= info.last_seq:
            return info, None
        return info, await self._ledger.follow(request_id, after)

    async def info(self, caller: Caller, request_id: str) -> RequestInfo:
        """The state of one of the caller's requests. Raises as `follow`."""
        info = await self._ledger.info(request_id)
        if info.request.tenant != caller.tenant:
            raise NotFound("there is no such stream")
        return info

    async def read(self, request_id: str) -> LogSlice:
        """The whole log of a request. To read a log this way does not count as following the stream.

        The caller of this method has checked by `info` whose request it is.
        """
        return await self._ledger.read(request_id)

    async def own_follower(self, admission: Admission) -> Follower:
        """A reader of an admitted request's log, from the beginning."""
        follow = partial(self._ledger.follow, admission.request.id)
        return await (self.outages.through(follow) if admission.goes_on else follow())

    async def follow_behind(self, request_id: str, seq: int) -> tuple[LogSlice, Follower]:
        """The log of a request up to `seq`, as far as the log goes, and a reader that stands there. Raises as `follow`.

        An earlier gateway has checked whose request it is.
        """
        follower = await self._ledger.follow(request_id)
        had, new = split(follower.take(), seq)
        if new.deltas or new.end is not None:
            follower = await self._ledger.follow(request_id, seq)
        return had, follower

    async def cancel(self, caller: Caller, request_id: str, held: HeldCall | None = None) -> bool:
        """Ends one of the caller's streams now. Raises as `follow`.

        Returns whether the stream was running before this call, which an earlier gateway may have made too if it is
        `held`.
        """
        await self.info(caller, request_id)
        if await self._ledger.cancel(request_id):
            return True
        if held is None or not held.is_repeated:
            return False
        end = (await self.read(request_id)).end
        return isinstance(end, Finished) and end.reason == "cancelled"

    async def forget(self, caller: Caller, request_id: str) -> None:
        """Deletes one of the caller's requests and its log. Raises as `follow`."""
        await self.info(caller, request_id)
        await self._ledger.forget(request_id)

    async def abandon(self, request_id: str) -> None:
        """Ends a request whose only reader has disconnected."""
        await self._ledger.cancel(request_id)

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        """The served models that the caller may use."""
        return models_for(caller, self.directory)

    async def body_with_images(
        self, exchange: Exchange, caller: Caller, image_chars: Callable[[Mapping[str, Any]], int]
    ) -> dict[str, Any]:
        """The body of a call on a route that takes images. Raises as `BodyReader.read`.

        Only a caller that may use a model with images may send a large body, or a client whose body an earlier gateway
        may have accepted: by now, the last worker of such a model may have left.
        """
        statuses = (self.directory.get(name) for name in self.models_for(caller))
        may = (exchange.held is not None and exchange.held.is_repeated) or any(
            status is not None and status.capabilities is not None and "images" in status.capabilities.honours
            for status in statuses
        )
        return await self.bodies.read(exchange, image_chars if may else None)

    # The node.

    async def wait_known(self) -> None:
        """Waits until this node knows which models are served, and whether it takes requests."""
        if self._wait_up is not None:
            await self._wait_up()
        await self.directory.wait_known()

    @property
    def draining(self) -> bool:
        """Whether this node admits no more requests."""
        return self._draining.is_set()

    @property
    def takes_work(self) -> bool:
        """Whether the node neither shuts down nor has a cordon."""
        return not self.draining and not self._cordon()

    def check_takes_work(self) -> None:
        """Raises `Unavailable` where this node admits no requests, because it shuts down or has a cordon."""
        if self.draining:
            raise Unavailable("this node is shutting down", retry_after_s=1.0)
        if self._cordon():
            raise Unavailable("an operator has drained this node: ask another one", retry_after_s=1.0)

    def drain(self) -> None:
        """Admits no more requests. Open streams go on."""
        self._draining.set()

    async def wait_draining(self) -> None:
        """Returns once `drain` was called."""
        await self._draining.wait()

    @contextlib.contextmanager
    def cuttable(self) -> Iterator[None]:
        """Around a wait for the end of a stream, which `cut` cancels. The wait then ends with `Unavailable`."""
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                yield
            finally:
                self._open.discard(scope)
        if scope.cancelled_caught:
            raise Unavailable("the node shut down before the answer was complete", retry_after_s=1.0)

    def cut(self) -> None:
        """Cancels every wait for a stream, because the node cannot wait any longer."""
        for scope in self._open:
            scope.cancel(reason="the node shuts down and its drain time is over")

    def problems(self) -> dict[str, str]:
        """What keeps this node from taking requests, by component. An empty dictionary means: the node is ready."""
        problems: dict[str, str] = {}
        if self.draining:
            problems["gateway"] = "draining"
        elif cordon := self._cordon():
            problems["gateway"] = cordon
        if not self._ledger_is_up():
            problems["ledger"] = "the ledger is away"
        return problems | self.directory.problems()

    async def ledger_statistics(self) -> LedgerStatistics:
        """The ledger's figures. Raises `Unavailable` when the ledger is away."""
        return await self._ledger.statistics()

    async def queue_demand(self) -> list[ModelDemand]:
        """What waits for each model. Raises `Unavailable` when the ledger is away."""
        return await self._ledger.demand(self.directory.names)
