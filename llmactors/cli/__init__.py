"""The command line: `python -m llmactors COMMAND`, with one module for each command.

    commands     the names of all commands
    flags        settings as flags
    mistakes     the line and the exit code for what went wrong
    models       downloads with a progress bar
    running      commands that run until a signal
    keeping      the keeper of a gateway, and the keepers of this machine
    client       commands that ask a running node
    tables       tables on standard output
    live         a screen that is drawn again and again
    top_sources  the figures of `top`; `top_frame`: their picture
    key_limits   the limits of keys as flags
    descriptors  standard streams that are closed, or in another encoding

An operator's mistake is one line on standard error and an exit code: 2 for a wrong flag, variable or file, 1 for
something that the machine does not have. There is no traceback.
"""

import contextlib
import gc
import sys
from collections.abc import Callable, Sequence

import cyclopts

from llmactors import __version__
from llmactors.cli.commands import COMMANDS, GROUPS, summary
from llmactors.cli.descriptors import complain, discard, open_closed_descriptors

_ROOT_FLAGS = {"--help", "-h", "--version"}
_COLLECT_AFTER_OBJECTS = 50_000
"""An import makes many objects and no garbage. With the default threshold of 700 objects the garbage collector would
look at all of them many times."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code. Without a command's name it runs `serve`."""
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    open_closed_descriptors()
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    at_root = bool(argv) and argv[0] in _ROOT_FLAGS
    words = argv if at_root or (argv and argv[0] in {*COMMANDS, *GROUPS}) else ["serve", *argv]

    def command() -> object:
        _check_encoding(argv)
        app = make_app(with_help=at_root)
        return app(words, exit_on_error=False, print_error=False, result_action="return_value")

    return exit_code_of(command, argv)


def exit_code_of(command: Callable[[], object], argv: Sequence[str] = ()) -> int:
    """Runs `command`, and returns its exit code. An error of the command is reported in one line on standard error."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of standard output, as in `| head`, is gone.
        discard(1)
        return 0
    except BaseException as error:  # noqa: BLE001 - every error is reported in one line, and becomes an exit code
        # Imported here, because the import takes a third of the time in which a command without a mistake starts.
        from llmactors.cli.mistakes import explain  # noqa: PLC0415

        text, exit_code = explain(error, argv)
        _say(text)
        return exit_code
    return code if isinstance(code, int) else 0


def _check_encoding(argv: Sequence[str]) -> None:
    """Raises `ValueError` for an argument that is not UTF-8: Python keeps its bytes as lone surrogates."""
    for argument in argv:
        argument.encode()


def _say(text: str) -> None:
    """Writes the last line of a command that failed. Standard error may be full or closed."""
    if text:
        complain(text)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        return
    discard(1)


def make_app(*, with_help: bool) -> cyclopts.App:
    """All commands. `with_help` gives each command its line in the list of commands, and reads the commands' modules
    for it.

    The commands are registered by the names of their modules. Only the module of the command that runs is imported, so
    a server starts in half the time.
    """
    app = cyclopts.App(
        name="llmactors",
        help="""Serve language models so that no accepted request or token is lost, whichever process dies.

        Without a command, `llmactors` runs `serve`: `llmactors --model mock` is `llmactors serve --model mock`.""",
        version=__version__,
        suppress_keyboard_interrupt=False,  # `mistakes` gives an interrupt its line and its exit code
    )
    for name in (*COMMANDS, *GROUPS):
        attribute = "app" if name in GROUPS else "command"
        app.command(f"llmactors.cli.{name}:{attribute}", name=name, help=summary(name) if with_help else None)
    return app
