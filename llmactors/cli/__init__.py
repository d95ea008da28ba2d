"""The command line: `python -m llmactors COMMAND`, one module per command, and what several of them share: `flags`,
`models` and `running` of those that serve, `client`, `sse` and `directory` of those that ask, and `tables`.

An operator's mistake is one line on stderr and an exit code: 2 for what was typed or configured, 1 for what the machine
does not have. Never a traceback.
"""

import os
import sys
from collections.abc import Sequence

import cyclopts

from llmactors import __version__
from llmactors.actors import ActorError, leaves
from llmactors.errors import LlmactorsError, OperatorError

app = cyclopts.App(
    name="llmactors",
    help="""Serve language models so that no accepted request or token is lost, whichever process dies.

    Without a command it is `serve`: `llmactors --model mock` is `llmactors serve --model mock`.""",
    version=__version__,
)
_COMMANDS = {
    "serve": "Serve models, everything in one process: `serve --help` has the settings.",
    "up": "Run a local cluster: gateways, workers and a Redis server.",
    "gateway": "Serve HTTP and WebSocket for the workers of a cluster.",
    "worker": "Run models for the gateways of a cluster.",
    "drain": "Have a node of a cluster end in order.",
    "tree": "Show the actors of a node, or of a cluster.",
    "generate": "Stream one answer to the terminal.",
    "load": "Put a load on a server, check every answer, and show how fast it is.",
    "bench": "Measure how fast this machine serves, in half a minute.",
    "pull": "Download a model.",
    "demo": "Watch a stream survive a kill -9.",
}
# By their places: only the module of the command that runs is imported, so that what serves starts in half the time.
for _name, _help in _COMMANDS.items():
    app.command(f"llmactors.cli.{_name}:command", name=_name, help=_help)
app.command("llmactors.cli.keys:app", name="keys", help="Make API keys, list them, and end them.")
app.command("llmactors.cli.queue:app", name="queue", help="Look at a cluster's queue and its dead letters.")

_ROOT_FLAGS = {"--help", "-h", "--version"}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code. Without a command name it is `serve`."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    if not argv or (argv[0] not in _ROOT_FLAGS and argv[0] not in app):
        argv = ["serve", *argv]
    try:
        code = app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.UnusedCliTokensError as error:
        _complain(f"there is no command or argument {' '.join(error.unused_tokens or ())!r}; see --help")
        return 2
    except cyclopts.CycloptsError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output, as in `| head`, has had enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        ours = operator_error(error)
        if ours is None:
            raise
        _complain(str(ours))
        return ours.exit_code if isinstance(ours, OperatorError) else 1
    return code if isinstance(code, int) else 0


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
