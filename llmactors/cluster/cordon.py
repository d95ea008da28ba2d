"""A cordon: an operator's word that a node takes no work. Redis keeps the cordon under the node's name."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Protocol

import attrs
import msgspec


@attrs.frozen
class Cordon:
    """The cordon of one node. A node that is started again under the same name has the same cordon."""

    since_unix_s: float
    until_unix_s: float | None = None
    """When the cordon ends by itself, by the clock of Redis; None where only `uncordon` ends it."""

    def encode(self) -> bytes:
        """The cordon as JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(data: bytes) -> "Cordon":
        """Decodes a cordon. Anything else counts as a cordon without an end, because an operator wrote something."""
        try:
            return msgspec.json.decode(data, type=Cordon)
        except msgspec.DecodeError:
            return Cordon(0.0)

    def describe(self, node: str) -> str:
        """A sentence for operators, which says how the cordon of `node` ends."""
        if self.until_unix_s is None:
            return f"an operator has drained this node; `uncordon {node}` ends that"
        until = dt.datetime.fromtimestamp(self.until_unix_s, dt.UTC)
        return f"an operator has drained this node until {until:%Y-%m-%d %H:%M:%S} UTC; `uncordon {node}` ends that now"


class Cordons(Protocol):
    """The cordons of all nodes by name."""

    async def cordon(self, name: str, for_s: float | None = None) -> None:
        """Has the node `name` take no work, for `for_s` seconds or until `uncordon`."""
        ...

    async def uncordon(self, name: str) -> bool:
        """Has the node `name` take work again. False where the node had no cordon."""
        ...

    async def cordon_of(self, name: str) -> Cordon | None:
        """The cordon of the node `name`, which need not run; None where there is none."""
        ...


class OwnCordon:
    """The `Cordons` of a single process, which is the only node. A restart of the process ends its cordon.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._cordon: Cordon | None = None

    def __repr__(self) -> str:
        return f"<OwnCordon {self.present}>"

    @property
    def present(self) -> Cordon | None:
        """The cordon, if it holds now."""
        cordon = self._cordon
        if cordon is not None and cordon.until_unix_s is not None and cordon.until_unix_s <= self._clock():
            self._cordon = None
        return self._cordon

    async def cordon(self, name: str, for_s: float | None = None) -> None:  # noqa: ARG002 - there is one node
        now = self._clock()
        self._cordon = Cordon(now, None if for_s is None else now + for_s)

    async def uncordon(self, name: str) -> bool:  # noqa: ARG002 - there is one node
        before, self._cordon = self.present, None
        return before is not None

    async def cordon_of(self, name: str) -> Cordon | None:  # noqa: ARG002 - there is one node
        return self.present
