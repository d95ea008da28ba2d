"""A tree of actors: built from specs, run, inspected and stopped."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import trio

from llmactors.actors.actor import ActorSpec, SupervisorSpec
from llmactors.actors.child_run import ChildNode
from llmactors.actors.deadletters import DeadLetters
from llmactors.actors.envelope import Exit, ExitKind, leaves
from llmactors.actors.errors import MisuseError
from llmactors.actors.incarnation import ActorNode
from llmactors.actors.observer import GuardedObserver, Observer
from llmactors.actors.ref import ActorRef
from llmactors.actors.registry import Registry
from llmactors.actors.statistics import SupervisorStatistics
from llmactors.actors.stop import StopSignal
from llmactors.actors.supervisor import SupervisorNode


class Tree:
    """A system of actors under one root supervisor.

    `async with Tree(root) as tree:` runs the tree: the body begins when all actors are up, and at the end of the body
    the actors stop in order. If the root supervisor fails, the body is cancelled, and the failure is raised.

    Args:
        root: The specs of all supervisors and actors.
        observer: Is called for the events of the tree.
        rng: Gives the jitter of the backoffs. A seeded one makes a run repeatable.
    """

    def __init__(
        self, root: SupervisorSpec, *, observer: Observer | None = None, rng: random.Random | None = None
    ) -> None:
        self._observer = GuardedObserver(observer or Observer(), self._on_observer_fatal, self._on_doomed)
        self._observer_fatal: BaseException | None = None
        self.doomed = trio.Event()
        """Is set after an error that nothing may survive. The tree stops then, and `run` raises the error."""
        self._rng = rng or random.Random()
        self._stop = StopSignal(for_good=True)
        self._nodes: dict[str, ChildNode] = {}
        self._registry = Registry()
        self._running: AbstractAsyncContextManager[None] | None = None
        self.dead_letters = DeadLetters(self._observer)
        self.root = self._supervisor(root, root.name)

    def __repr__(self) -> str:
        return f"<Tree {self.root!r}>"

    async def __aenter__(self) -> Self:
        self._running = self._run_around()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._running is not None  # noqa: S101 - entered before
        return await self._running.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _run_around(self) -> AsyncIterator[None]:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.run)
                yield
                self.stop()
        except BaseExceptionGroup as group:
            # One error comes out as itself. Where the tree and the body failed, both are in the group.
            if len(found := [leaf for leaf in leaves(group) if not isinstance(leaf, trio.Cancelled)]) != 1:
                raise
            only = found[0]
        else:
            return
        raise only

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until `stop` or a cancel. Raises the failure that the root supervisor could not survive.

        At the end all actors are stopped in order, each within its grace, and all mailboxes are closed: queued messages
        go to the dead letters, and every open `ask` ends. A tree runs once. If `stop` is called before all actors are
        up, `task_status.started` is called all the same, and `run` returns.
        """
        if self.root.state != "stopped" or self.root.incarnation:
            raise MisuseError(f"the tree {self.root.path} has run before: build a new tree to run again")
        self.root.state = "starting"
        try:
            await self.root.run(self._stop, _RootStarted(self.root, task_status))
        except BaseException as error:
            cancelled = all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))
            self.root.ended(Exit(ExitKind.KILLED) if cancelled else Exit(ExitKind.CRASHED, error))
            raise
        else:
            self.root.ended(Exit(ExitKind.SHUTDOWN))
        finally:
            self.root.state = "stopped"
            self.root.close()
        if self._observer_fatal is not None:
            raise self._observer_fatal

    def stop(self) -> None:
        """Requests the stop of all actors, and returns at once. `run` returns when all have stopped."""
        self._stop.set()

    def _on_observer_fatal(self, error: BaseException) -> None:
        """Stops the tree because its observer raised an error that nothing may survive."""
        if self._observer_fatal is None:
            self._observer_fatal = error
            self.stop()
            self._observer.doomed("the observer", error)

    def _on_doomed(self) -> None:
        self.doomed.set()

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the whole tree."""
        return self.root.statistics()

    def actor(self, path: str) -> ActorNode:
        """The actor at `path`, as in `root/serving/batcher`. Raises `MisuseError` if no actor has this path."""
        node = self._nodes.get(path)
        if not isinstance(node, ActorNode):
            raise MisuseError(f"there is no actor {path}; there are: {', '.join(self._actor_paths())}")
        return node

    def find(self, name: str) -> ActorRef[Any] | None:
        """The address of the actor with the `registered_name` `name`; None where no actor has the name."""
        return self._registry.find(name)

    def actors(self) -> list[ActorNode]:
        """All actors, in start order."""
        return [node for node in self._nodes.values() if isinstance(node, ActorNode)]

    def _actor_paths(self) -> Iterator[str]:
        return (node.path for node in self.actors())

    def add(self, spec: ActorSpec[Any] | SupervisorSpec, path: str) -> ChildNode:
        """Makes the node of a child. For the runtime only: `SupervisorRef.start_child` starts children.

        Raises `MisuseError`. Then neither the child nor anything below it has a place.
        """
        if not isinstance(spec, SupervisorSpec):
            node = self._nodes[path] = ActorNode(spec, path, self._observer, self.dead_letters, self._registry)
            return node
        known = len(self._nodes)
        was_bound = spec.ref.is_bound
        try:
            return self._supervisor(spec, path)
        except MisuseError:
            for placed in list(self._nodes.values())[known:]:
                self.remove(placed)
                placed.spec.ref.unbind()
            if not was_bound:
                spec.ref.unbind()
            raise

    def remove(self, node: ChildNode) -> None:
        """Forgets a child and all that is below it. For the runtime only."""
        if isinstance(node, SupervisorNode):
            for child in node.children.values():
                self.remove(child)
        elif isinstance(node, ActorNode):
            self._registry.remove(node.spec.registered_name)
        self._nodes.pop(node.path, None)

    def _supervisor(self, spec: SupervisorSpec, path: str) -> SupervisorNode:
        node = SupervisorNode(spec, path, self, self._observer, self._rng)
        self._nodes[path] = node
        return node


class _RootStarted:
    def __init__(self, root: SupervisorNode, inner: trio.TaskStatus[None]) -> None:
        self._root = root
        self._inner = inner

    def started(self, value: None = None) -> None:
        self._root.state = "running"
        self._inner.started(value)
