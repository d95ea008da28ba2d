"""The command line: `python -m llmactors COMMAND`, one module per command.

An operator's mistake is one line on stderr and an exit code: 2 for what was typed or configured, 1 for what the machine
does not have. Never a traceback.
"""

import os
import sys
from collections.abc import Sequence

import click
import typer

from llmactors.actors import leaves
from llmactors.cli import generate, serve, tree
from llmactors.errors import LlmactorsError, OperatorError

app = typer.Typer(
    name="llmactors",
    help="Serve language models so that no accepted request or token is lost, whichever process dies.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)
app.command("serve")(serve.command)
app.command("generate")(generate.command)
app.command("tree")(tree.command)

COMMANDS = ("serve", "pull", "generate", "tree", "demo")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code. Without a command name it is `serve`."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    if not argv or (argv[0].startswith("-") and argv[0] not in {"--help", "-h"}):
        argv = ["serve", *argv]
    try:
        code = app(argv, standalone_mode=False)
    except click.ClickException as error:
        _complain(error.format_message())
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of our output, as in `| head`, has had enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        ours = operator_error(error)
        if ours is None:
            raise
        _complain(ours.message)
        return ours.exit_code if isinstance(ours, OperatorError) else 1
    return code if isinstance(code, int) else 0


def operator_error(error: BaseException) -> LlmactorsError | None:
    """The innermost error of ours in a chain of causes and groups: the one that says what to do. None if none is."""
    found: LlmactorsError | None = None
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None:
            continue
        for leaf in leaves(current):
            if isinstance(leaf, LlmactorsError):
                found = leaf
            pending.append(leaf.__cause__)
    return found


def _complain(text: str) -> None:
    print(f"llmactors: {' '.join(text.split())}", file=sys.stderr)
