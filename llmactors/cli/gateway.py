"""`gateway`: HTTP and WebSocket for a cluster."""

from functools import partial

import structlog

from llmactors.cli.flags import with_settings
from llmactors.cli.keeping import become_keeper, has_keeper, why_no_keeper
from llmactors.cli.running import FAULT, end_process, run_node, set_up_output
from llmactors.config import Configuration
from llmactors.http.held_server import HeldSocket
from llmactors.http.keeper_link import KeeperLink
from llmactors.http.server import ListeningSocket
from llmactors.system.gateway_node import GatewayNode
from llmactors.system.ledger_shards import redis_urls

log = structlog.get_logger("llmactors")


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
    wants_keeper = settings.keeper and not has_keeper()
    obstacle = why_no_keeper() if wants_keeper else None
    if wants_keeper and obstacle is None:
        become_keeper(settings, ListeningSocket(settings.bind))
    set_up_output(settings)
    if obstacle is not None:
        log.warning("the connections of this gateway end with it, because no keeper can hold them", reason=obstacle)
    link = KeeperLink.from_environment(end_process=partial(end_process, FAULT))
    listening = ListeningSocket(settings.bind) if link is None else HeldSocket(link)
    try:
        node = GatewayNode(settings, listening)
        run_node(node, configuration, lambda: print(f"llmactors gateway {node.name} on {listening.url}", flush=True))
    finally:
        listening.close()
    return 0
