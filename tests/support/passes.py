"""Counts the passes of Trio's scheduler."""

import contextlib
from collections.abc import Iterator

import trio


class Passes(trio.abc.Instrument):
    """The number of passes so far."""

    def __init__(self) -> None:
        self.now = 0

    def before_io_wait(self, timeout: float) -> None:
        self.now += 1


@contextlib.contextmanager
def counted_passes() -> Iterator[Passes]:
    """Counts the passes of Trio's scheduler until the block ends."""
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    try:
        yield passes
    finally:
        trio.lowlevel.remove_instrument(passes)
