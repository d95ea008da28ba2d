"""Starts, stops and restarts children as a `Planner` says.

The supervisor's loop runs in the body of a nursery, and each child runs in a cancel scope of its own, which is shielded
once the child is up. A cancel from outside therefore reaches only the loop, which then stops the children in order.
"""

import math
import random
from typing import Any, Protocol

import trio

from llmactors.actors.actor import ActorSpec, SupervisorSpec
from llmactors.actors.child_run import ChildNode, ChildRun
from llmactors.actors.children import StartChild, StopChild
from llmactors.actors.envelope import Exit, ExitKind, fatal, forget_tracebacks
from llmactors.actors.errors import ActorDied, MisuseError, RestartIntensityExceeded, StartFailed
from llmactors.actors.observer import Observer
from llmactors.actors.planner import Planner, RestartPlan
from llmactors.actors.start_times import StartTimes
from llmactors.actors.statistics import SupervisorStatistics
from llmactors.actors.stop import StopSignal


class Places(Protocol):
    """Gives children their places in the tree."""

    def add(self, spec: ActorSpec[Any] | SupervisorSpec, path: str) -> ChildNode:
        """Makes the node of a child. Raises `MisuseError` if its spec or its registered name has a place already."""

    def remove(self, node: ChildNode) -> None:
        """Forgets a child and all that is below it."""


_Event = ChildRun | StartChild | StopChild | None
"""What a supervisor's loop hears of: the end of a child, a command, or, as None, its own stop."""


class SupervisorNode:
    """One supervisor's place in a running tree. The nodes of supervisors and actors outlive their restarts."""

    def __init__(self, spec: SupervisorSpec, path: str, places: Places, observer: Observer, rng: random.Random) -> None:
        spec.ref.bind(path)
        self.spec = spec
        self.path = path
        self.state = "stopped"
        self.is_supervisor = True
        self.children = {child.name: places.add(child, f"{path}/{child.name}") for child in spec.children}
        self._places = places
        self._added: dict[str, None] = {}
        self.incarnation = 0
        self.last_exit: Exit | None = None
        self._observer = observer
        self._rng = rng
        self._runs: dict[str, ChildRun] = {}
        self._start_times = StartTimes()
        self._events: trio.MemorySendChannel[_Event]
        self._starting: trio.CancelScope | None = None
        self._ends_for_good = False
        self._planner = self._new_planner()

    def __repr__(self) -> str:
        return f"<SupervisorNode {self.path}#{self.incarnation} {self.state} running={list(self._runs)}>"

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
        self._start_times.clear()
        self._ends_for_good = False
        # Unbounded, because each run of a child sends only once.
        self._events, events = trio.open_memory_channel[_Event](math.inf)

        def interrupt() -> None:
            self._events.send_nowait(None)
            if self._starting is not None:
                self._starting.cancel(reason=f"{self.path} stops")

        stop.on_set(interrupt)
        self.spec.ref.open(self._events.send_nowait)
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await self._boot(nursery, stop)
                    task_status.started()
                    await self._supervise(nursery, events, stop)
                except (StartFailed, RestartIntensityExceeded) as error:
                    failure = error
                except trio.Cancelled:
                    # Only a child's fatal error cancels a supervisor that is up, and then nothing starts again.
                    self._ends_for_good = self.state == "running"
                    raise
                finally:
                    self.spec.ref.close()
                    await self._stop_all(for_good=stop.for_good or self._ends_for_good)
                    self._forget_added(events)
        except BaseExceptionGroup as group:
            if (failure := fatal(group)) is None:
                raise
        # Raised here and not in the handler: there the group, which has the error in it, would become its context.
        if failure is not None:
            raise failure

    async def _stop_all(self, *, for_good: bool) -> None:
        """Stops the children from the last to the first. `for_good` says that they will not be started again."""
        self.state = "stopping"
        self._start_times.clear()
        self._ends_for_good = for_good
        if for_good:
            # Nobody shall wait for the answer of a child that has ended already.
            for name, child in self.children.items():
                if name not in self._runs or self._runs[name].done.is_set():
                    child.close()
        with trio.CancelScope(shield=True):
            for name in reversed(self.children):
                await self._stop(name, f"{self.path} stops")

    def _forget_added(self, events: trio.MemoryReceiveChannel[_Event]) -> None:
        """Forgets the children that are not in the spec, and refuses the commands that were not carried out."""
        for name in tuple(self._added):
            self._remove(name)
        while True:
            try:
                event = events.receive_nowait()
            except trio.WouldBlock:
                return
            if isinstance(event, StartChild | StopChild):
                event.reply.fail(ActorDied(f"the supervisor {self.path} has ended"))

    async def _boot(self, nursery: trio.Nursery, stop: StopSignal) -> None:
        """Starts all children, or fewer if a stop comes first."""
        for name in self.children:
            if stop.is_set():
                return
            try:
                await self._start(name, nursery)
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
        events: trio.MemoryReceiveChannel[_Event],
        stop: StopSignal,
    ) -> None:
        # A child that exits during the supervisor's own stop is neither restarted nor counted.
        while not stop.is_set():
            event: _Event = None
            with trio.move_on_at(self._start_times.first()):
                event = await events.receive()
            if stop.is_set():
                if isinstance(event, StartChild | StopChild):
                    event.reply.fail(ActorDied(f"the supervisor {self.path} has ended"))
                return
            match event:
                case StartChild():
                    await self._start_child(event, nursery)
                case StopChild():
                    await self._stop_child(event)
                case ChildRun() if self._runs.get(event.name) is event:
                    del self._runs[event.name]
                    # The traceback of the error refers to the run, which the garbage collector would have to free.
                    crash, event.error = event.error, None
                    await self._on_exit(event.name, crash, stop)
            now = trio.current_time()
            while not stop.is_set() and (name := self._start_times.pop(now)) is not None:
                try:
                    await self._start(name, nursery)
                except StartFailed as error:
                    if not stop.is_set():
                        await self._on_exit(name, error, stop)
                    break  # the failure may have delayed the other children, so read the due times again

    async def _start_child(self, command: StartChild, nursery: trio.Nursery) -> None:
        name, path = command.spec.name, f"{self.path}/{command.spec.name}"
        if name in self.children:
            command.reply.fail(MisuseError(f"{self.path} has a child {name} already"))
            return
        try:
            self.children[name] = self._places.add(command.spec, path)
        except MisuseError as error:
            command.reply.fail(error)
            return
        self._added[name] = None
        self._planner.add(name, command.spec.restart)
        try:
            await self._start(name, nursery)
        except StartFailed as error:
            self._remove(name)
            command.reply.fail(error)
        except BaseException:
            command.reply.fail(ActorDied(f"the supervisor {self.path} has ended"))
            raise
        else:
            if name in self._runs:
                command.reply.set(None)
            else:
                command.reply.fail(ActorDied(f"{path} was stopped before it was up"))

    async def _stop_child(self, command: StopChild) -> None:
        name = command.name
        if name not in self._added:
            known = ", ".join(self._added) or "none"
            command.reply.fail(MisuseError(f"{self.path} has started no child {name}; it has started: {known}"))
            return
        self._start_times.discard(name)
        try:
            await self._stop(name, f"{self.path} was asked to stop this child")
        except BaseException:
            command.reply.fail(ActorDied(f"the supervisor {self.path} has ended"))
            raise
        self._remove(name)
        command.reply.set(None)

    def _remove(self, name: str) -> None:
        """Forgets a child that is not in the spec, and that has ended for good."""
        node = self.children.pop(name)
        del self._added[name]
        self._start_times.discard(name)
        self._planner.remove(name)
        node.close()
        self._places.remove(node)

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
            self._start_times.discard(child)
            await self._stop(child, f"{self.path} restarts this child together with {name}")
        if not stop.is_set():
            self._schedule(plan, due, exit_)
        forget_tracebacks(error)

    def _schedule(self, plan: RestartPlan, due: float, exit_: Exit) -> None:
        for child in plan.ended:
            self.children[child].state = "stopped"
            self.children[child].close()
            if child in self._added:
                self._remove(child)
        for child in plan.start:
            self.children[child].state = "restarting"
            self._start_times.put(child, due)
        if plan.start:
            used = self._planner.recent_restarts
            self._observer.restarting(
                self.path, plan.start, exit_, delay_s=plan.delay_s, count=used, intensity=self.spec.intensity
            )

    async def _start(self, name: str, nursery: trio.Nursery) -> None:
        """Starts one child, and waits until the child is up or a stop comes. Raises `StartFailed`."""
        node = self.children[name]
        run = self._runs[name] = ChildRun(name, node, self._observer, self._on_end)
        node.state = "starting"
        self._starting = trio.CancelScope()
        try:
            with self._starting:
                await nursery.start(run.run)
        finally:
            self._starting = None
        if run.up and not run.done.is_set():
            node.state = "running"
            self._planner.on_started(name, trio.current_time())

    def _on_end(self, run: ChildRun) -> None:
        """Is told at the end of each run that the child has ended."""
        if not run.up:
            if self._runs.get(run.name) is run:
                del self._runs[run.name]
        elif run.fatal is None:
            # A fatal error ends this supervisor by itself, and no plan is made for the exit.
            self._events.send_nowait(run)
        if self._ends_for_good:
            run.node.close()

    async def _stop(self, name: str, reason: str) -> None:
        """Stops a running child."""
        run = self._runs.get(name)
        if run is None:
            self.children[name].state = "stopped"
            return
        await run.end(reason, for_good=self._ends_for_good)
        if self._runs.get(name) is run:
            del self._runs[name]
