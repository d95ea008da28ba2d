"""The standard streams of a command: opened where the parent closed them, and fit for every character."""

import contextlib
import io
import os
import sys

from llmactors.errors import ConfigError, OperatorError


class OutputFailed(OperatorError):
    """Standard output cannot be written."""


class ReaderGone(OutputFailed):
    """The reader of standard output has ended, as `head` does."""


def show(text: str, *, end: str = "\n") -> None:
    """Prints `text` at once. Raises `OutputFailed` where `print` raises an `OSError` that could be a network's."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError as error:
        raise ReaderGone("nobody reads standard output") from error
    except OSError as error:
        raise OutputFailed(f"the output cannot be written: {error.strerror}") from error


def complain(text: str) -> None:
    """Writes `text` as one line to standard error, unless that is full or closed: then the exit code says enough."""
    try:
        print(f"llmactors: {' '.join(text.split())}", file=sys.stderr, flush=True)
    except OSError:
        discard(2)


def discard(fd: int) -> None:
    """Sends a standard stream to the null device. Python would fail to write the rest at its end, and exit with 120."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def read_input() -> str:
    """All of standard input. Raises `ConfigError` for anything but UTF-8, whatever the locale is."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"standard input is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        ) from error


def open_closed_descriptors() -> None:
    """Opens the null device for each of the descriptors 0 to 2 that is closed, and sets Python's streams for them.

    Without this the next socket or file gets the number 1 or 2, and every line of the log is written to that socket.
    A character that the encoding of the output lacks is shown by its number.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            # The kernel gives the lowest free number, which is `fd`.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(fd, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
