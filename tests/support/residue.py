"""Lists the containers of an object that are not empty, for tests that nothing is left behind."""

from collections import deque
from collections.abc import Iterator
from typing import Any

_CONTAINERS = (dict, list, set, deque)


def residue(root: object) -> dict[str, int]:
    """The number of entries of each container in `root`, and in llmactors objects below it, that is not empty.

    Keys are attribute paths, such as `_life.queues._queues`.
    """
    return {path: size for path, size in _walk(root, "") if size}


def _walk(owner: object, path: str) -> Iterator[tuple[str, int]]:
    for name, value in _attributes(owner):
        here = f"{path}.{name}" if path else name
        if isinstance(value, _CONTAINERS):
            yield here, len(value)
        elif type(value).__module__.startswith("llmactors."):
            yield from _walk(value, here)


def _attributes(owner: object) -> Iterator[tuple[str, Any]]:
    yield from vars(owner).items() if hasattr(owner, "__dict__") else ()
    for kind in type(owner).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(owner, name) and not name.startswith("__"):
                yield name, getattr(owner, name)
