"""Counts the objects that only the garbage collector can free."""

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """The garbage collector does not run by itself, and a run looks only at objects that are made in the block."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def in_cycles() -> Counter[str]:
    """Collects the garbage, and returns the number of the objects that nothing but a cycle held, by class."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
    finally:
        gc.set_debug(0)
    found: list[Any] = list(gc.garbage)
    gc.garbage.clear()
    counts = Counter(type(each).__name__ for each in found)
    del found
    gc.collect()  # frees what was found, so that the next call does not find the same objects
    return counts
