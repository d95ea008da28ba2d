"""`serve`: everything in one process."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from llmactors.cli import flags
from llmactors.cli.models import serve_models
from llmactors.cli.running import run_until_signal, set_up_logging
from llmactors.config import load
from llmactors.http.server import ListeningSocket
from llmactors.system.node import Node


def command(
    *,
    model: flags.MODEL = None,
    bind: Annotated[str | None, Parameter(help="HOST:PORT to listen on. [127.0.0.1:8000]")] = None,
    config: Annotated[Path | None, Parameter(help="A TOML file with settings.")] = None,
    slots: Annotated[int | None, Parameter(help="Sequences decoded at once.")] = None,
    context: Annotated[int | None, Parameter(help="Tokens per sequence.")] = None,
    threads: Annotated[int | None, Parameter(help="Threads per model.")] = None,
    keys: Annotated[Path | None, Parameter(help="A file of API keys; see `keys`.")] = None,
    rate_limit: Annotated[str | None, Parameter(help="COUNT/PERIOD per caller, as in 60/min.")] = None,
    rate_algorithm: Annotated[str | None, Parameter(help="gcra or fixed_window. [gcra]")] = None,
    max_queued: Annotated[int | None, Parameter(help="Requests that may wait. [1024]")] = None,
    resume_grace_s: Annotated[float | None, Parameter(help="A stream's life without a reader. [10]")] = None,
    drain_s: Annotated[float | None, Parameter(help="How long a shutdown waits for open streams. [20]")] = None,
    hung_s: Annotated[float | None, Parameter(help="A backend silent for this long is restarted. [60]")] = None,
    log_level: Annotated[str | None, Parameter(help="debug, info, warning or error. [info]")] = None,
    log_format: Annotated[str | None, Parameter(help="json, console or auto. [auto]")] = None,
    access_log: Annotated[bool | None, Parameter(help="One log line per request.")] = None,
) -> int:
    """Serve one or more models over HTTP and WebSocket, everything in one process. The default command.

    Every flag is also a variable, LLMACTORS_RATE_LIMIT for --rate-limit, and a key of the configuration file. Callers
    are asked for an API key if --keys names a key file, or if GATEWAY_API_KEY is set.
    """
    flags = {
        "model": model or None,
        "bind": bind,
        "slots": slots,
        "context": context,
        "threads": threads,
        "keys": None if keys is None else str(keys),
        "rate_limit": rate_limit,
        "rate_algorithm": rate_algorithm,
        "max_queued": max_queued,
        "resume_grace_s": resume_grace_s,
        "drain_s": drain_s,
        "hung_s": hung_s,
        "log_level": log_level,
        "log_format": log_format,
        "access_log": access_log,
    }
    settings = load(flags, file=config)
    set_up_logging(settings)
    # Bound before the model is loaded: a port in use is told at once.
    listening = ListeningSocket(settings.bind)
    try:
        node = Node(settings, serve_models(settings), listening)
        run_until_signal(node, lambda: _say_ready(node))
    finally:
        listening.close()
    return 0


def _say_ready(node: Node) -> None:
    url = node.listening.url
    names = ", ".join(node.directory.names)
    print(f"llmactors serves {names} on {url}", flush=True)
    if sys.stdout.isatty():
        print(
            f"\n  curl -N {url}/v1/generate -H 'content-type: application/json' \\\n"
            """       -d '{"prompt": "Why is the sky blue?", "stream": true}'\n""",
            flush=True,
        )
