"""`gateway`: HTTP and WebSocket for a cluster."""

import sys
from functools import partial

from llmactors.cli.flags import with_settings
from llmactors.cli.keeping import become_keeper, has_keeper
from llmactors.cli.running import FAULT, end_process, run_node, set_up_output
from llmactors.config import Configuration
from llmactors.http.held_server import HeldSocket
from llmactors.http.keeper_link import KeeperLink
from llmactors.http.server import ListeningSocket
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.ledger_shards import redis_urls


@with_settings("gateway")
def command(configuration: Configuration) -> int:
    """Serve HTTP and WebSocket for the workers of a cluster.

    SIGTERM drains the gateway: new requests are refused, and open streams may end. Each flag is also a variable, as
    LLMACTORS_REDIS for --redis, and a key of the configuration file, as redis. Callers need an API key if --keys says
    where keys are, or if the variable GATEWAY_API_KEY is set.

    On Linux, a keeper holds the connections: neither the gateway's death nor an `upgrade` cuts one. With --no-keeper,
    this process is the gateway itself.
    """
    settings = configuration.settings
    redis_urls(settings)
    if settings.keeper and sys.platform == "linux" and not has_keeper():
        become_keeper(settings, ListeningSocket(settings.bind))
    set_up_output(settings)
    link = KeeperLink.from_environment(end_process=partial(end_process, FAULT))
    listening = ListeningSocket(settings.bind) if link is None else HeldSocket(link)
    try:
        node = GatewayNode(settings, listening)
        run_node(node, configuration, lambda: print(f"llmactors gateway {node.name} on {listening.url}", flush=True))
    finally:
        listening.close()
    return 0
