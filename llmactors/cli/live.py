"""A screen that is drawn again and again, until the user presses q."""

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated

import trio
from cyclopts import Parameter
from rich.console import Console, RenderableType
from rich.live import Live

from llmactors.config import parse_duration
from llmactors.errors import ConfigError

EVERY = Annotated[str, Parameter(help="How often the screen is drawn again, as in 2s or 500ms.")]
_EVERY_MIN_S = 0.1
_QUIT = frozenset(b"qQ\x04")
"""The keys that leave the screen: q, and Ctrl-D."""

Draw = Callable[[Console], Awaitable[RenderableType]]
"""Makes the next picture, for the size of the console. Raises nothing that the screen could outlive."""


def is_terminal() -> bool:
    """Whether standard output is a terminal, on which a screen can be drawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"


def every_s(text: str) -> float:
    """The time between two pictures, in seconds. Raises `ConfigError`."""
    found = parse_duration(text, "every")
    if found < _EVERY_MIN_S:
        raise ConfigError(f"`every`: {text} is too short; write {_EVERY_MIN_S:g}s or more")
    return found


async def show_live(draw: Draw, interval_s: float) -> int:
    """Draws a picture every `interval_s` seconds, until q, Ctrl-D, SIGTERM or SIGHUP. Returns the exit code.

    The terminal is left as it was, also by an interrupt, which raises `KeyboardInterrupt`.
    """
    console = Console(highlight=False)
    picture = await draw(console)  # an error of the first picture is shown as an error of any command
    code = 0
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals,
        _keys_unbuffered(),
        Live(picture, console=console, screen=True, auto_refresh=False) as live,
    ):
        live.refresh()
        async with trio.open_nursery() as nursery:

            async def end_by_signal() -> None:
                nonlocal code
                async for number in signals:
                    code = 128 + number
                    nursery.cancel_scope.cancel(reason="a signal ends the screen")

            async def end_by_key() -> None:
                async for key in _keys():
                    if key in _QUIT:
                        nursery.cancel_scope.cancel(reason="the user leaves the screen")

            nursery.start_soon(end_by_signal)
            nursery.start_soon(end_by_key)
            while True:
                await trio.sleep(interval_s)
                live.update(await draw(console), refresh=True)
    return code


@contextlib.contextmanager
def _keys_unbuffered() -> Iterator[None]:
    """Lets the terminal hand over each key at once, and not show it. Ctrl-Z is no key here: the screen would stay."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        attributes = termios.tcgetattr(sys.stdin)
        attributes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(sys.stdin, termios.TCSANOW, attributes)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def _keys() -> AsyncIterator[int]:
    """The bytes of the keys that are pressed. None come where standard input is no terminal."""
    if not sys.stdin.isatty():
        return
    while True:
        await trio.lowlevel.wait_readable(sys.stdin)
        data = os.read(sys.stdin.fileno(), 64)
        if not data:
            return
        for key in data:
            yield key
