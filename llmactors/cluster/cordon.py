"""A cordon: an operator's word that a node takes no work. Redis keeps the cordon under the node's name."""

import datetime as dt

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
