"""The address of a supervisor, which starts and stops children while the supervisor runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from llmactors.actors.envelope import Reply
from llmactors.actors.errors import ActorDied, MisuseError

if TYPE_CHECKING:
    from llmactors.actors.actor import ActorSpec, SupervisorSpec


@attrs.frozen(eq=False)
class StartChild:
    """Asks a supervisor to start one more child, behind all that it has."""

    spec: "ActorSpec[Any] | SupervisorSpec"
    reply: Reply = attrs.field(factory=Reply)


@attrs.frozen(eq=False)
class StopChild:
    """Asks a supervisor to stop a child that `StartChild` started, and to forget the child."""

    name: str
    reply: Reply = attrs.field(factory=Reply)


class SupervisorRef:
    """Starts and stops children of a supervisor, from any actor or task of the tree's event loop.

    Such a child comes after all other children in the order of starts, and in the strategy of its supervisor. The child
    is restarted as its restart type says. The supervisor forgets the child when the child ends for good: as a temporary
    child that ended, a transient child that ended normally, by `stop_child`, and at each end of the supervisor itself,
    also before a restart. The mailbox of the child is closed then, and its names are free.
    """

    def __init__(self, name: str) -> None:
        self.path = name
        """The supervisor's path in its tree; the bare name while the supervisor is in no tree."""
        self.is_bound = False
        """Whether the supervisor has a place in a tree. Only the runtime writes this."""
        self._post: Callable[[StartChild | StopChild], None] | None = None

    def __repr__(self) -> str:
        return f"<SupervisorRef {self.path} {'down' if self._post is None else 'up'}>"

    async def start_child(self, spec: "ActorSpec[Any] | SupervisorSpec") -> None:
        """Starts a child, and returns when it is up.

        Raises `StartFailed`, `MisuseError` if a child has this name or the spec is in a tree already, or `ActorDied` if
        the supervisor does not run or ends first. A caller that is cancelled while it waits does not stop the start. Do
        not call this in the `on_start` of another child of the same supervisor, which waits for the end of that start.
        """
        command = StartChild(spec)
        self._send(command)
        await command.reply.wait()

    async def stop_child(self, name: str) -> None:
        """Stops a child that `start_child` started, within its grace, and returns when it has ended.

        Raises `MisuseError` if there is no such child, or `ActorDied` if the supervisor does not run or ends first.
        """
        command = StopChild(name)
        self._send(command)
        await command.reply.wait()

    def _send(self, command: StartChild | StopChild) -> None:
        if self._post is None:
            raise ActorDied(f"the supervisor {self.path} is not running")
        self._post(command)

    def bind(self, path: str) -> None:
        """Gives the supervisor its place in a tree. For the runtime only."""
        if self.is_bound:
            raise MisuseError(f"{path} has the same spec as {self.path}: two supervisors cannot share one address")
        self.is_bound = True
        self.path = path

    def unbind(self) -> None:
        """Takes back a `bind` that did not come to a place in a tree. For the runtime only."""
        self.is_bound = False

    def open(self, post: Callable[[StartChild | StopChild], None]) -> None:
        """Takes commands from now on. For the runtime only."""
        self._post = post

    def close(self) -> None:
        """Takes no commands from now on. For the runtime only."""
        self._post = None
