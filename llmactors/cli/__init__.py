"""The command line: `python -m llmactors COMMAND`, with one module for each command.

    commands     the names of all commands
    flags        settings as flags
    mistakes     the line and the exit code for what went wrong
    models       downloads with a progress bar
    running      commands that run until a signal
    client       commands that ask a running node
    directory    commands that read the node directory of a cluster
    tables       tables on standard output

An operator's mistake is one line on standard error and an exit code: 2 for a wrong flag, variable or file, 1 for
something that the machine does not have. There is no traceback.
"""

import os
import sys
from collections.abc import Sequence

import cyclopts

from llmactors import __version__
from llmactors.cli.commands import COMMANDS, GROUPS, summary

_ROOT_FLAGS = {"--help", "-h", "--version"}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code. Without a command's name it runs `serve`."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    at_root = bool(argv) and argv[0] in _ROOT_FLAGS
    command = argv if at_root or (argv and argv[0] in {*COMMANDS, *GROUPS}) else ["serve", *argv]
    try:
        code = make_app(with_help=at_root)(
            command, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of standard output, as in `| head`, is gone. Without this, Python reports the error at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # Only here: the import takes a third of the time in which a command without a mistake starts.
        from llmactors.cli.mistakes import explain  # noqa: PLC0415

        explained = explain(error, argv)
        if explained is None:
            raise
        text, exit_code = explained
        print(f"llmactors: {' '.join(text.split())}", file=sys.stderr)
        return exit_code
    return code if isinstance(code, int) else 0


def make_app(*, with_help: bool) -> cyclopts.App:
    """All commands. `with_help` gives each its line in the list of commands; it takes the time to read their modules.

    The commands are registered by their places: only the module of the command that runs is imported, so that a server
    starts in half the time.
    """
    app = cyclopts.App(
        name="llmactors",
        help="""Serve language models so that no accepted request or token is lost, whichever process dies.

        Without a command, `llmactors` runs `serve`: `llmactors --model mock` is `llmactors serve --model mock`.""",
        version=__version__,
    )
    for name in (*COMMANDS, *GROUPS):
        attribute = "app" if name in GROUPS else "command"
        app.command(f"llmactors.cli.{name}:{attribute}", name=name, help=summary(name) if with_help else None)
    return app
