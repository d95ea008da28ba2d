"""Runs an actor's incarnations one after another: the start, the message loop, the message in hand, the cleanup."""

import math
from typing import Any

import trio

from llmactors.actors.actor import Actor, ActorSpec, Context
from llmactors.actors.deadletters import DeadLetters, DeadReason
from llmactors.actors.envelope import Down, Envelope, Exit, describe, fatal, leaves
from llmactors.actors.errors import HandlerHung, MisuseError
from llmactors.actors.observer import Observer
from llmactors.actors.registry import Registry
from llmactors.actors.statistics import ActorStatistics
from llmactors.actors.stop import StopSignal


class ActorNode:
    """One actor's place in a running tree. The node outlives the incarnations."""

    def __init__(
        self, spec: ActorSpec[Any], path: str, observer: Observer, dead_letters: DeadLetters, registry: Registry
    ) -> None:
        spec.ref.bind(path)
        if spec.registered_name:
            try:
                registry.add(spec.registered_name, spec.ref)
            except MisuseError:
                spec.ref.unbind()
                raise
        self.spec = spec
        self.path = path
        self.state = "stopped"
        self.is_supervisor = False
        self._observer = observer
        self._dead_letters = dead_letters
        self._registry = registry
        self._nursery: trio.Nursery | None = None
        self._handled = 0
        self._in_hand: Envelope | Down | None = None
        self._in_hand_since = 0.0
        spec.ref.mailbox.on_overflow = lambda envelope: dead_letters.add(path, DeadReason.OVERFLOW, envelope)

    def __repr__(self) -> str:
        return f"<ActorNode {self.path}#{self.spec.ref.incarnation} {self.state}>"

    @property
    def grace_s(self) -> float:
        """The time that a stop may take before the cancel."""
        return self.spec.grace_s

    def statistics(self) -> ActorStatistics:
        """A snapshot. The actor itself is not asked, so the snapshot of a hung actor works too."""
        status = self.spec.ref.status
        return ActorStatistics(
            name=self.spec.name,
            path=self.path,
            state=self.state,
            incarnation=status.incarnation,
            restarts=max(0, status.incarnation - 1),
            handled=self._handled,
            in_hand_s=0.0 if self._in_hand is None else trio.current_time() - self._in_hand_since,
            last_exit="" if status.last_exit is None else str(status.last_exit),
            mailbox=self.spec.ref.mailbox.statistics(),
        )

    def crash(self, error: Exception) -> None:
        """Ends the running incarnation as if one of its background tasks had raised `error`. For drills and tests.

        Raises `MisuseError` if no incarnation is running, or if it is ending already.
        """
        if self._nursery is None:
            raise MisuseError(f"{self.path} is not running")
        self._nursery.start_soon(_fail, error)

    async def run(self, stop: StopSignal, task_status: trio.TaskStatus[None]) -> None:
        """Runs one incarnation, from the factory to the end of its cleanup. Raises the exception that ended it."""
        status = self.spec.ref.status
        status.incarnation += 1
        context = Context(self.spec.ref, status.incarnation, self._registry)
        actor = self.spec.factory()
        try:
            async with trio.open_nursery() as nursery:
                context.bind(nursery)
                with _budget(self.spec.start_s, f"the start of {self.path}"):
                    await actor.on_start(context)
                # After `started` only the supervisor can cancel this actor, so a cancel from before is raised here.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._nursery = nursery
                status.running = True
                task_status.started()
                # Only now: an observer may stop the tree, and a start that is cancelled must not become shielded.
                self._observer.actor_started(self.path, status.incarnation)
                try:
                    await self._serve(actor, context, stop)
                finally:
                    self._nursery = None
                nursery.cancel_scope.cancel(reason=f"{self.path} has ended")
        except BaseException as error:
            try:
                await self._clean_up(actor, context)
            except Exception as second:  # noqa: BLE001 - the crash must not hide the failed cleanup, nor the other way round
                both = f"{self.path} failed, and so did its cleanup"
                raise BaseExceptionGroup(both, [error, second]) from None
            raise
        else:
            await self._clean_up(actor, context)

    async def _clean_up(self, actor: Actor[Any], context: Context) -> None:
        context.close()
        with trio.CancelScope(shield=True), _budget(self.spec.cleanup_s, f"the cleanup of {self.path}"):
            await actor.on_stop()

    def ended(self, exit_: Exit) -> None:
        """Records the end of the newest incarnation, and tells the watchers."""
        status = self.spec.ref.status
        status.running = False
        status.ended = status.incarnation
        status.last_exit = exit_
        self._observer.actor_exited(self.path, status.incarnation, exit_)
        for mailbox, incarnation in tuple(status.watchers):
            mailbox.put_control(incarnation, Down(self.path, status.incarnation, exit_))

    def open(self) -> None:
        """Accepts messages from now on."""
        self.spec.ref.mailbox.open()

    def close(self) -> None:
        """Accepts no messages from now on. The queued messages go to the dead letters."""
        mailbox = self.spec.ref.mailbox
        mailbox.closed = True
        for envelope in mailbox.drain():
            self._dead_letters.add(self.path, DeadReason.STOPPED, envelope)

    async def _serve(self, actor: Actor[Any], context: Context, stop: StopSignal) -> None:
        mailbox = self.spec.ref.mailbox
        stop.on_set(mailbox.wake)

        def stopping() -> bool:
            return stop.is_set() or context.exiting

        while (event := await mailbox.get(context.incarnation, stopping)) is not None:
            now = trio.current_time()
            self._in_hand, self._in_hand_since = event, now
            try:
                if isinstance(event, Down):
                    with _budget(self.spec.budget_s, f"{self.path}, handling a death notice"):
                        await actor.on_down(event)
                elif self._is_wanted(event, context.incarnation, now):
                    context.in_hand = event
                    await self._handle(actor, context, event)
                    self._handled += 1
            finally:
                self._in_hand = context.in_hand = None

    def _is_wanted(self, envelope: Envelope, incarnation: int, now: float) -> bool:
        if envelope.deadline <= now:
            self._dead_letters.add(self.path, DeadReason.EXPIRED, envelope)
        elif envelope.incarnation not in (None, incarnation):
            self._dead_letters.add(self.path, DeadReason.STALE, envelope)
        else:
            return True
        return False

    async def _handle(self, actor: Actor[Any], context: Context, envelope: Envelope) -> None:
        try:
            if self.spec.budget_s == math.inf:
                await self._answer(actor, context, envelope)
            else:
                # Around the handling of declared errors, so that `HandlerHung` is a crash even if it is declared.
                with _budget(self.spec.budget_s, f"{self.path}, handling {type(envelope.message).__name__}"):
                    await self._answer(actor, context, envelope)
        except BaseException as error:
            envelope.deliveries += 1
            if all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):
                # Something else ended the incarnation, so this message is not counted as a crash.
                self._give_up_or_redeliver(context, envelope, DeadReason.CANCELLED, "the actor was stopped")
            else:
                envelope.crashes += 1
                self._give_up_or_redeliver(context, envelope, DeadReason.CRASHED, describe(error))
            raise

    async def _answer(self, actor: Actor[Any], context: Context, envelope: Envelope) -> None:
        try:
            answer = await actor.on_message(envelope.message)
        except self.spec.declares as declared:
            if fatal(declared) is not None:
                raise  # a declared group with an error in it that nothing may survive
            self._refuse(envelope, declared)
        else:
            if envelope.reply is not None and not context.is_deferred(envelope.reply):
                envelope.reply.set(answer)

    def _refuse(self, envelope: Envelope, declared: Exception) -> None:
        if envelope.reply is None:
            self._dead_letters.add(self.path, DeadReason.REFUSED, envelope, describe(declared))
        else:
            envelope.reply.fail(declared)

    def _give_up_or_redeliver(self, context: Context, envelope: Envelope, reason: DeadReason, cause: str) -> None:
        if not self.spec.redeliver or envelope.crashes >= 2:
            self._dead_letters.add(self.path, reason, envelope, cause)
        elif envelope.deliveries >= self.spec.deliveries_max:
            times = f"{envelope.deliveries} incarnations ended with this message in hand"
            self._dead_letters.add(self.path, DeadReason.DELIVERIES, envelope, times)
        else:
            context.take_back(envelope)
            self.spec.ref.mailbox.put_back(envelope)


async def _fail(error: Exception) -> None:
    try:
        raise error
    finally:
        del error  # the traceback of the error has this frame


class _budget:  # noqa: N801 - used like a function, as the context managers of contextlib
    """Raises `HandlerHung` if the body takes longer than `seconds`. A generator would cost more per message."""

    __slots__ = ("_scope", "_what")

    def __init__(self, seconds: float, what: str) -> None:
        self._scope = None if seconds == math.inf else trio.CancelScope(relative_deadline=seconds)
        self._what = what

    def __enter__(self) -> None:
        if self._scope is not None:
            self._scope.__enter__()

    def __exit__(self, *exc: object) -> bool:
        if self._scope is None:
            return False
        swallow = bool(self._scope.__exit__(*exc))  # type: ignore[arg-type]
        if self._scope.cancelled_caught:
            raise HandlerHung(f"{self._what} took longer than its budget")
        return swallow
