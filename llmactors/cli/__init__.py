"""The command line: `python -m llmactors COMMAND`, with one module for each command.

Commands share `flags` (settings as flags), `models` and `running` (commands that serve), `client`, `sse` and
`directory` (commands that ask a running node or cluster), and `tables`.

An operator's mistake is one line on standard error and an exit code: 2 for a wrong flag, variable or file, 1 for
something that the machine does not have. There is no traceback.
"""

import os
import sys
from collections.abc import Sequence

import cyclopts

from llmactors import __version__
from llmactors.actors import ActorError, leaves
from llmactors.cli.commands import COMMANDS, GROUPS, summary
from llmactors.cli.mistakes import explain
from llmactors.errors import LlmactorsError, OperatorError

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
    except cyclopts.CycloptsError as error:
        _complain(explain(error, argv))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of standard output, as in `| head`, is gone. Without this, Python reports the error at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        ours = operator_error(error)
        if ours is None:
            raise
        _complain(str(ours))
        return ours.exit_code if isinstance(ours, OperatorError) else 1
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


def operator_error(error: BaseException) -> LlmactorsError | ActorError | None:
    """The innermost error of ours in a chain of causes and groups: the one that says what to do. None if none is."""
    found: LlmactorsError | ActorError | None = None
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None:
            continue
        for leaf in leaves(current):
            if isinstance(leaf, LlmactorsError | ActorError):
                found = leaf
            pending.append(leaf.__cause__)
    return found


def _complain(text: str) -> None:
    print(f"llmactors: {' '.join(text.split())}", file=sys.stderr)
