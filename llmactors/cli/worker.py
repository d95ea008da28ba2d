"""`worker`: the models of a cluster."""

from llmactors.backends.build import serve_models
from llmactors.cli.flags import with_settings
from llmactors.cli.running import run_node, set_up_output
from llmactors.config import Configuration
from llmactors.http.server import ListeningSocket
from llmactors.system.ledger_shards import redis_urls
from llmactors.system.worker_node import WorkerNode


@with_settings("worker")
def command(configuration: Configuration) -> int:
    """Run models for the gateways of a cluster.

    SIGTERM drains the worker: other workers go on with its requests. Each flag is also a variable, as LLMACTORS_REDIS
    for --redis, and a key of the configuration file, as redis.
    """
    settings = configuration.settings
    redis_urls(settings)
    set_up_output(settings)
    listening = ListeningSocket(settings.metrics_bind, flag="--metrics-bind") if settings.metrics_bind else None
    try:
        node = WorkerNode(settings, serve_models(settings), listening)
        run_node(node, configuration, lambda: _say_ready(node))
    finally:
        if listening is not None:
            listening.close()
    return 0


def _say_ready(node: WorkerNode) -> None:
    names = ", ".join(node.directory.names)
    where = "" if node.listening is None else f", metrics on {node.listening.url}"
    print(f"llmactors worker {node.name} serves {names}{where}", flush=True)
