"""The clients of one library, in a process of their own.

    python -m tests.chaos.keeper.loaders GROUP

The first line of stdin says what to load. The clients ask until stdin ends, then each finishes its last answer. After a
fault, a client begins again with a new connection, so that the load stays the same.
"""

import importlib
import itertools
import json
import sys
import threading
from collections.abc import Iterator

import attrs

from tests.chaos.keeper.records import Answer
from tests.chaos.keeper.shapes import Oracle, Shape, all_shapes


@attrs.frozen
class Plan:
    """What one process loads."""

    url: str
    clients: dict[str, int]
    """How many clients of each kind."""
    tokens: int
    templates: dict[str, str]
    ends: threading.Event = attrs.field(factory=threading.Event)
    """Set once no client may ask again."""

    @property
    def oracle(self) -> Oracle:
        return Oracle(all_shapes(self.tokens), self.templates)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def every_client(self) -> Iterator[tuple[str, int]]:
        """The kind and the number of each client."""
        for kind, count in self.clients.items():
            yield from ((kind, number) for number in range(count))

    def turns(self, kind: str, number: int, names: list[str]) -> Iterator[tuple[Shape, str, Answer]]:
        """What a client asks, until the end: the shape, the prompt, and the answer to fill."""
        shapes = all_shapes(self.tokens)
        for turn in itertools.count():
            if self.ends.is_set():
                return
            shape = shapes[names[(number + turn) % len(names)]]
            yield shape, shape.prompt(f"{kind.replace(' ', '-')} {number} {turn}"), Answer(kind, shape.name)


RUNNERS = {
    "plain": ("plain_clients", "run"),
    "threads": ("libraries", "run_threads"),
    "trio": ("libraries", "run_trio"),
    "asyncio": ("libraries", "run_asyncio"),
    "browser": ("browser", "run"),
}
"""The module and the function that run each group. A process imports only its own."""


def main(group: str) -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))

    def wait_end() -> None:
        while sys.stdin.read(1):
            pass
        plan.ends.set()

    threading.Thread(target=wait_end, daemon=True).start()
    module, function = RUNNERS[group]
    getattr(importlib.import_module(f"tests.chaos.keeper.{module}"), function)(plan)


if __name__ == "__main__":
    main(sys.argv[1])
