"""One run of one child of a supervisor: from its start to its end, in a cancel scope of its own."""

from collections.abc import Callable
from typing import Any, Protocol

import trio

from llmactors.actors.actor import ActorSpec, SupervisorSpec
from llmactors.actors.envelope import Exit, ExitKind, fatal, forget_tracebacks
from llmactors.actors.errors import StartFailed
from llmactors.actors.observer import Observer
from llmactors.actors.statistics import ActorStatistics, SupervisorStatistics
from llmactors.actors.stop import StopSignal


class ChildNode(Protocol):
    """What a supervisor needs of a child, which is the node of an actor or of another supervisor."""

    path: str
    state: str
    is_supervisor: bool

    @property
    def spec(self) -> ActorSpec[Any] | SupervisorSpec: ...

    @property
    def grace_s(self) -> float: ...
    async def run(self, stop: StopSignal, task_status: trio.TaskStatus[None]) -> None: ...
    def ended(self, exit_: Exit) -> None: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def statistics(self) -> ActorStatistics | SupervisorStatistics: ...


class ChildRun:
    """Runs a child once. `on_end` is called when the child has ended, also after a failed start."""

    def __init__(self, name: str, node: ChildNode, observer: Observer, on_end: Callable[["ChildRun"], None]) -> None:
        self.name = name
        self.node = node
        self.done = trio.Event()
        self.up = False
        """Whether the child has started. Until then, a cancel of the supervisor cancels the start."""
        self.error: BaseException | None = None
        self.fatal: BaseException | None = None
        """The part of `error` that nothing may survive."""
        self._stop = StopSignal()
        self._scope = trio.CancelScope()
        self._observer = observer
        self._on_end = on_end

    def __repr__(self) -> str:
        return f"<ChildRun {self.node.path} {'ended' if self.done.is_set() else 'up' if self.up else 'starting'}>"

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Runs the child to its end. Raises `StartFailed`, or an error that nothing may survive (see `fatal`)."""
        node = self.node
        node.open()
        try:
            with self._scope:
                try:
                    await node.run(self._stop, _Started(self, task_status))
                except* Exception as group:  # noqa: BLE001 - a supervisor survives any crash of a child
                    self.error = group
        except BaseException as error:
            self.error = fatal(error) or self.error
            raise
        finally:
            self.fatal = None if self.error is None else fatal(self.error)
            if self.fatal is not None and not node.is_supervisor:
                self._observer.doomed(node.path, self.fatal)
            node.ended(self._exit())
            node.state = "stopped"
            self.done.set()
            self._on_end(self)
        if self.fatal is not None:
            # Raised through the nursery, so that all siblings stop and the whole tree ends.
            raise self.fatal
        if self.error is not None and not self.up:
            raise StartFailed(f"{node.path} could not start") from self.error

    async def end(self, reason: str, *, for_good: bool) -> None:
        """Asks the child to stop, waits for its grace, cancels the child, and waits for its end."""
        if not self.done.is_set():
            self.node.state = "stopping"
            self._stop.set(for_good=for_good)
            with trio.move_on_after(self.node.grace_s):
                await self.done.wait()
        if not self.done.is_set():
            self._scope.cancel(reason=f"{reason}; its grace of {self.node.grace_s:g} s is over")
            await self.done.wait()
        if self.fatal is None:
            forget_tracebacks(self.error)

    def started(self) -> None:
        """Says that the child is up. From now on, cancels from outside do not reach the child."""
        self.up = True
        self._scope.shield = True

    def _exit(self) -> Exit:
        if self.error is not None:
            return Exit(ExitKind.CRASHED, self.error)
        if self._scope.cancelled_caught or not self.up:
            return Exit(ExitKind.KILLED)
        return Exit(ExitKind.SHUTDOWN if self._stop.is_set() else ExitKind.NORMAL)


class _Started:
    """The `task_status` of a child, which notes that the child is up."""

    def __init__(self, run: ChildRun, inner: trio.TaskStatus[None]) -> None:
        self._run = run
        self._inner = inner

    def started(self, value: None = None) -> None:
        self._run.started()
        self._inner.started(value)
