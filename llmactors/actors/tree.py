"""A tree of actors: built from specs, run, inspected and stopped."""

import random
from collections.abc import Iterator

import trio

from llmactors.actors.actor import ActorSpec, SupervisorSpec
from llmactors.actors.deadletters import DeadLetters
from llmactors.actors.envelope import Exit, ExitKind, leaves
from llmactors.actors.errors import MisuseError
from llmactors.actors.incarnation import ActorNode
from llmactors.actors.observer import GuardedObserver, Observer
from llmactors.actors.statistics import SupervisorStatistics
from llmactors.actors.stop import StopSignal
from llmactors.actors.supervisor import ChildNode, SupervisorNode


class Tree:
    """A system of actors under one root supervisor.

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
        self.dead_letters = DeadLetters(self._observer)
        self.root = self._supervisor(root, root.name)

    def __repr__(self) -> str:
        return f"<Tree {self.root!r}>"

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

    def actors(self) -> list[ActorNode]:
        """All actors, in start order."""
        return [node for node in self._nodes.values() if isinstance(node, ActorNode)]

    def _actor_paths(self) -> Iterator[str]:
        return (node.path for node in self.actors())

    def _supervisor(self, spec: SupervisorSpec, path: str) -> SupervisorNode:
        children = {child.name: self._child(child, f"{path}/{child.name}") for child in spec.children}
        node = SupervisorNode(spec, path, children, self._observer, self._rng)
        self._nodes[path] = node
        return node

    def _child(self, spec: ActorSpec | SupervisorSpec, path: str) -> ChildNode:
        if isinstance(spec, SupervisorSpec):
            return self._supervisor(spec, path)
        if any(spec is node.spec for node in self.actors()):
            raise MisuseError(f"{path} has the same spec as {spec.ref.path}: two actors cannot share one address")
        node = self._nodes[path] = ActorNode(spec, path, self._observer, self.dead_letters)
        return node


class _RootStarted:
    def __init__(self, root: SupervisorNode, inner: trio.TaskStatus[None]) -> None:
        self._root = root
        self._inner = inner

    def started(self, value: None = None) -> None:
        self._root.state = "running"
        self._inner.started(value)
