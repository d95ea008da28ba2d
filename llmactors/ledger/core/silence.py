"""Workers that fell silent, and what each of them held. Pure.

Silence is no death: a silent worker may be stopped, or cut off, and go on later.
"""

from collections import OrderedDict

import attrs


def name_of(worker_id: str) -> str:
    """What stays the same over the incarnations of a worker: the part of its id before the last `#`; empty if none."""
    return worker_id.rpartition("#")[0]


@attrs.frozen
class Loss:
    """What a request knows of an attempt whose worker fell silent."""

    charged: bool
    """Whether the attempt counts until the worker beats again."""
    alone: bool
    """Whether the request was in quarantine and ran alone."""


class SilentWorkers:
    """The newest workers that fell silent, and the ids of the requests that each of them held."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._held: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"<SilentWorkers: {', '.join(self._held) or 'none'}>"

    def add(self, worker_id: str, held: tuple[str, ...]) -> None:
        """Remembers what a worker held that has just lost its lease."""
        if held:
            self._held[worker_id] = held
            if len(self._held) > self._kept:
                self._held.popitem(last=False)

    def take(self, worker_id: str) -> tuple[str, ...]:
        """Forgets a worker; returns the ids of the requests that the worker held."""
        return self._held.pop(worker_id, ())

    def namesakes(self, worker_id: str) -> list[str]:
        """Other silent incarnations of the same worker."""
        name = name_of(worker_id)
        return [other for other in self._held if name and name_of(other) == name and other != worker_id]
