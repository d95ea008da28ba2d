"""`serve`: everything in one process."""

import sys

from llmactors.backends.build import serve_models
from llmactors.cli.flags import with_settings
from llmactors.cli.running import run_node, set_up_output
from llmactors.config import Configuration
from llmactors.http.server import ListeningSocket
from llmactors.system.node import Node


@with_settings("serve")
def command(configuration: Configuration) -> int:
    """Serve models over HTTP and WebSocket, everything in one process.

    Each flag is also a variable, as LLMACTORS_RATE_LIMIT for --rate-limit, and a key of the configuration file, as
    rate_limit. Callers need an API key if --keys names a key file, or if the variable GATEWAY_API_KEY is set.
    """
    settings = configuration.settings
    set_up_output(settings)
    # The socket is bound before the model is loaded, so that a port in use is reported at once.
    listening = ListeningSocket(settings.bind)
    try:
        node = Node(settings, serve_models(settings), listening)
        run_node(node, configuration, lambda: _say_ready(node))
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
