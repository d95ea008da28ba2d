"""Finds the actors of a tree by their registered names."""

from typing import Any

from llmactors.actors.errors import MisuseError
from llmactors.actors.ref import ActorRef


class Registry:
    """The actors of one tree that have a `registered_name`.

    A name belongs to one actor, over all its restarts, from the building of its place in the tree until the actor ends
    for good as a child that is never started again.
    """

    def __init__(self) -> None:
        self._refs: dict[str, ActorRef[Any]] = {}

    def __repr__(self) -> str:
        return f"<Registry {sorted(self._refs)}>"

    def find(self, name: str) -> ActorRef[Any] | None:
        """The address of the actor with this name; None where no actor has the name."""
        return self._refs.get(name)

    def names(self) -> list[str]:
        """All names, in the order of their registration."""
        return list(self._refs)

    def add(self, name: str, ref: ActorRef[Any]) -> None:
        """Registers an actor. Raises `MisuseError` if another actor has the name. For the runtime only."""
        if name in self._refs:
            raise MisuseError(f"{ref.path} cannot have the name {name}, which {self._refs[name].path} has")
        self._refs[name] = ref

    def remove(self, name: str) -> None:
        """Forgets a name. For the runtime only."""
        self._refs.pop(name, None)
