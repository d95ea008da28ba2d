"""Starts, stops and restarts children as a `Planner` says.

The supervisor's loop runs in the body of a nursery, and each child runs in a cancel scope of its own, which is shielded
once the child is up. A cancel from outside therefore reaches only the loop, which then stops the children in order.
"""

import math
import random
from typing import Protocol

import attrs
import trio

from llmactors.actors.actor import SupervisorSpec
from llmactors.actors.envelope import Exit, ExitKind, fatal
from llmactors.actors.errors import RestartIntensityExceeded, StartFailed
from llmactors.actors.observer import Observer
from llmactors.actors.planner import Planner, RestartPlan
from llmactors.actors.statistics import ActorStatistics, SupervisorStatistics
from llmactors.actors.stop import StopSignal


class ChildNode(Protocol):
    """What a supervisor needs of a child, which is the node of an actor or of another supervisor."""

    path: str
    state: str

    @property
    def grace_s(self) -> float: ...
    async def run(self, stop: StopSignal, task_status: trio.TaskStatus[None]) -> None: ...
    def ended(self, exit_: Exit) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def statistics(self) -> ActorStatistics | SupervisorStatistics: ...


@attrs.define(eq=False)
class _Live:
    """One run of one child."""

    name: str
    stop: StopSignal = attrs.field(factory=StopSignal)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    done: trio.Event = attrs.field(factory=trio.Event)
    up: bool = False
    error: BaseException | None = None


@attrs.define(eq=False)
class _Started:
    """The `task_status` of a child. Once the child calls `started`, cancels from outside no longer reach the child."""

    live: _Live
    inner: trio.TaskStatus[None]

    def started(self, value: None = None) -> None:
        self.live.up = True
        self.live.scope.shield = True
        self.inner.started(value)


class SupervisorNode:
    """One supervisor's place in a running tree. The nodes of supervisors and actors outlive their restarts."""

    def __init__(
        self, spec: SupervisorSpec, path: str, children: dict[str, ChildNode], observer: Observer, rng: random.Random
    ) -> None:
        self.spec = spec
        self.path = path
        self.state = "stopped"
        self.children = children
        self.incarnation = 0
        self.last_exit: Exit | None = None
        self._observer = observer
        self._rng = rng
        self._live: dict[str, _Live] = {}
        self._due: dict[str, float] = {}
        self._starting: trio.CancelScope | None = None
        self._ends_for_good = False
        self._planner = self._new_planner()

    def __repr__(self) -> str:
        return f"<SupervisorNode {self.path}#{self.incarnation} {self.state} running={list(self._live)}>"

    @property
    def grace_s(self) -> float:
        """No limit, because a supervisor that is cancelled could not stop its children in order."""
        return math.inf

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of this supervisor and all its children."""
        return SupervisorStatistics(
            name=self.spec.name,
            path=self.path,
            state=self.state,
            strategy=self.spec.strategy.value,
            intensity=self.spec.intensity,
            period_s=self.spec.period_s,
            incarnation=self.incarnation,
            restarts=max(0, self.incarnation - 1),
            recent_restarts=self._planner.recent_restarts,
            last_exit="" if self.last_exit is None else str(self.last_exit),
            children=tuple(child.statistics() for child in self.children.values()),
        )

    async def run(self, stop: StopSignal, task_status: trio.TaskStatus[None]) -> None:
        """Starts the children, supervises them until `stop` or a cancel, and stops them.

        A child that has ended for good, because the whole tree stops, refuses messages from then on.

        Raises `StartFailed` if a child does not start at first, `RestartIntensityExceeded`, or an error that nothing
        may survive (see `fatal`). None of these is wrapped in an exception group.
        """
        self.incarnation += 1
        self._planner = self._new_planner()
        self._due.clear()
        self._ends_for_good = False
        # Unbounded, because each run of a child sends only once.
        exits, exited = trio.open_memory_channel[_Live | None](math.inf)

        def interrupt() -> None:
            exits.send_nowait(None)
            if self._starting is not None:
                self._starting.cancel(reason=f"{self.path} stops")

        stop.on_set(interrupt)
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await self._boot(nursery, exits, stop)
                    task_status.started()
                    await self._supervise(nursery, exits, exited, stop)
                except (StartFailed, RestartIntensityExceeded) as error:
                    failure = error
                except trio.Cancelled:
                    # Only a child's fatal error cancels a supervisor that is up, and then nothing starts again.
                    self._ends_for_good = self.state == "running"
                    raise
                finally:
                    await self._stop_all(for_good=stop.for_good or self._ends_for_good)
        except BaseExceptionGroup as group:
            if (failure := fatal(group)) is None:
                raise
        # Raised here and not in the handler: there the group, which has the error in it, would become its context.
        if failure is not None:
            raise failure

    async def _stop_all(self, *, for_good: bool) -> None:
        """Stops the children from the last to the first. `for_good` says that they will not be started again."""
        self.state = "stopping"
        self._due.clear()
        self._ends_for_good = for_good
        if for_good:
            # Nobody shall wait for the answer of a child that has ended already.
            for name, child in self.children.items():
                if name not in self._live or self._live[name].done.is_set():
                    child.close()
        with trio.CancelScope(shield=True):
            for name in reversed(self.children):
                await self._stop(name, f"{self.path} stops")

    async def _boot(self, nursery: trio.Nursery, exits: trio.MemorySendChannel[_Live | None], stop: StopSignal) -> None:
        """Starts all children, or fewer if a stop comes first."""
        for name in self.children:
            if stop.is_set():
                return
            try:
                await self._start(name, nursery, exits)
            except StartFailed:
                if not stop.is_set():
                    raise
        # After `started` only the parent can cancel this supervisor, so a cancel from before is raised here.
        await trio.lowlevel.checkpoint_if_cancelled()

    def ended(self, exit_: Exit) -> None:
        """Records the end of a run."""
        self.last_exit = exit_

    def open(self) -> None:
        """Does nothing, because each child opens when it starts."""

    def close(self) -> None:
        """Closes the mailboxes of all actors below this supervisor."""
        for child in self.children.values():
            child.close()

    def _new_planner(self) -> Planner:
        spec = self.spec
        children = [(child.name, child.restart) for child in spec.children]
        return Planner(children, spec.strategy, spec.intensity, spec.period_s, spec.backoff, self._rng)

    async def _supervise(
        self,
        nursery: trio.Nursery,
        exits: trio.MemorySendChannel[_Live | None],
        exited: trio.MemoryReceiveChannel[_Live | None],
        stop: StopSignal,
    ) -> None:
        # A child that exits during the supervisor's own stop is neither restarted nor counted.
        while not stop.is_set():
            live = None
            with trio.move_on_at(min(self._due.values(), default=math.inf)):
                live = await exited.receive()
            if live is not None and self._live.get(live.name) is live and not stop.is_set():
                del self._live[live.name]
                # The traceback of the error refers to the run, which the garbage collector would have to free.
                crash, live.error = live.error, None
                await self._on_exit(live.name, crash, stop)
            for name in self._overdue():
                if stop.is_set():
                    break
                del self._due[name]
                try:
                    await self._start(name, nursery, exits)
                except StartFailed as error:
                    if not stop.is_set():
                        await self._on_exit(name, error, stop)
                    break  # the failure may have delayed the other children, so read the due times again

    def _overdue(self) -> list[str]:
        now = trio.current_time()
        return [name for name in self.children if self._due.get(name, math.inf) <= now]

    async def _on_exit(self, name: str, error: BaseException | None, stop: StopSignal) -> None:
        """Does what the planner says about an exit."""
        plan = self._planner.on_exit(name, crashed=error is not None, now=trio.current_time())
        exit_ = Exit(ExitKind.NORMAL if error is None else ExitKind.CRASHED, error)
        if plan.give_up:
            self._observer.gave_up(self.path, name, exit_)
            raise RestartIntensityExceeded(
                f"{self.path} gave up: more than {self.spec.intensity} restarts in {self.spec.period_s:g} s, "
                f"the last of {name}"
            ) from error
        # The delay starts now, and the time that it takes to stop the other children is part of the delay.
        due = trio.current_time() + plan.delay_s
        for child in plan.stop:
            self._due.pop(child, None)
            await self._stop(child, f"{self.path} restarts this child together with {name}")
        if not stop.is_set():
            self._schedule(plan, due, exit_)

    def _schedule(self, plan: RestartPlan, due: float, exit_: Exit) -> None:
        for child in plan.ended:
            self.children[child].state = "stopped"
            self.children[child].close()
        for child in plan.start:
            self.children[child].state = "restarting"
            self._due[child] = due
        if plan.start:
            used = self._planner.recent_restarts
            self._observer.restarting(
                self.path, plan.start, exit_, delay_s=plan.delay_s, count=used, intensity=self.spec.intensity
            )

    async def _start(self, name: str, nursery: trio.Nursery, exits: trio.MemorySendChannel[_Live | None]) -> None:
        """Starts one child, and waits until the child is up or a stop comes. Raises `StartFailed`."""
        live = self._live[name] = _Live(name)
        node = self.children[name]
        node.state = "starting"
        self._starting = trio.CancelScope()
        try:
            with self._starting:
                await nursery.start(self._run_child, live, exits)
        finally:
            self._starting = None
        if live.up and not live.done.is_set():
            node.state = "running"
            self._planner.on_started(name, trio.current_time())

    async def _run_child(
        self, live: _Live, exits: trio.MemorySendChannel[_Live | None], task_status: trio.TaskStatus[None]
    ) -> None:
        node = self.children[live.name]
        node.open()
        try:
            with live.scope:
                try:
                    await node.run(live.stop, _Started(live, task_status))
                except* Exception as group:  # noqa: BLE001 - a supervisor survives any crash of a child
                    live.error = group
        except BaseException as error:
            live.error = fatal(error) or live.error
            raise
        finally:
            unmendable = None if live.error is None else fatal(live.error)
            if unmendable is not None and not isinstance(node, SupervisorNode):
                self._observer.doomed(node.path, unmendable)
            node.ended(self._exit_of(live))
            node.state = "stopped"
            live.done.set()
            if not live.up:
                if self._live.get(live.name) is live:
                    del self._live[live.name]
            elif unmendable is None:
                # A fatal error ends this supervisor by itself, and no plan is made for the exit.
                exits.send_nowait(live)
            if self._ends_for_good:
                node.close()
        if unmendable is not None:
            # Raised through the nursery, so that all siblings stop and the whole tree ends.
            raise unmendable
        if live.error is not None and not live.up:
            raise StartFailed(f"{node.path} could not start") from live.error

    @staticmethod
    def _exit_of(live: _Live) -> Exit:
        if live.error is not None:
            return Exit(ExitKind.CRASHED, live.error)
        if live.scope.cancelled_caught or not live.up:
            return Exit(ExitKind.KILLED)
        return Exit(ExitKind.SHUTDOWN if live.stop.is_set() else ExitKind.NORMAL)

    async def _stop(self, name: str, reason: str) -> None:
        """Asks a running child to stop, waits for its grace, cancels the child, and waits for its end."""
        live = self._live.get(name)
        if live is None:
            self.children[name].state = "stopped"
            return
        node = self.children[name]
        if not live.done.is_set():
            node.state = "stopping"
            live.stop.set(for_good=self._ends_for_good)
            with trio.move_on_after(node.grace_s):
                await live.done.wait()
        if not live.done.is_set():
            live.scope.cancel(reason=f"{reason}; its grace of {node.grace_s:g} s is over")
            await live.done.wait()
        if self._live.get(name) is live:
            del self._live[name]
