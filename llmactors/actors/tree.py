"""A whole tree: built from specs, run, looked at, stopped."""

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
    """One running system of actors under one root supervisor.

    `rng` spreads the backoffs; hand in a seeded one to make a run repeatable.
    """

    def __init__(
        self, root: SupervisorSpec, *, observer: Observer | None = None, rng: random.Random | None = None
    ) -> None:
        self._observer = GuardedObserver(observer or Observer())
        self._rng = rng or random.Random()
        self._stop = StopSignal()
        self._nodes: dict[str, ChildNode] = {}
        self.dead_letters = DeadLetters(self._observer)
        self.root = self._supervisor(root, root.name)

    def __repr__(self) -> str:
        return f"<Tree {self.root!r}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until `stop`, a cancel, or a failure that the root cannot survive, which it raises.

        Whatever ends it, all actors are stopped in order first, each within its grace, and then all mailboxes are
        closed: what is queued in them goes to the dead letters, and every open `ask` ends. A tree runs once. One that
        is stopped before it is up reports itself as started, and ends: that is no error.
        """
        if self.root.state != "stopped" or self.root.incarnation:
            raise MisuseError(f"the tree {self.root.path} has been run before")
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

    def stop(self) -> None:
        """Asks for an orderly end. Returns at once; `run` returns when it is done."""
        self._stop.set()

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of everything."""
        return self.root.statistics()

    def actor(self, path: str) -> ActorNode:
        """The actor at `path`, as in `root/serving/batcher`. Raises `MisuseError` if there is none."""
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
            raise MisuseError(f"{path} has the spec of {spec.ref.path}: two actors cannot share one address")
        node = self._nodes[path] = ActorNode(spec, path, self._observer, self.dead_letters)
        return node


class _RootStarted:
    def __init__(self, root: SupervisorNode, inner: trio.TaskStatus[None]) -> None:
        self._root = root
        self._inner = inner

    def started(self, value: None = None) -> None:
        self._root.state = "running"
        self._inner.started(value)
