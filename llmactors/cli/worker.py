"""`worker`: the models of a cluster."""

from typing import Annotated

from cyclopts import Parameter

from llmactors.cli import flags
from llmactors.cli.models import serve_models
from llmactors.cli.running import run_until_signal, set_up_logging
from llmactors.config import load
from llmactors.http.server import ListeningSocket
from llmactors.system.cluster_node import redis_url
from llmactors.system.worker_node import WorkerNode


def command(
    *,
    redis: flags.REDIS = None,
    name: flags.NAME = None,
    model: flags.MODEL = None,
    metrics_bind: Annotated[
        str | None, Parameter(help="HOST:PORT of /metrics and /readyz; '' for none. [127.0.0.1:9100]")
    ] = None,
    config: flags.CONFIG = None,
    namespace: flags.NAMESPACE = None,
    slots: flags.SLOTS = None,
    context: flags.CONTEXT = None,
    threads: flags.THREADS = None,
    drain_s: flags.DRAIN_S = None,
    hung_s: flags.HUNG_S = None,
    lease_s: flags.LEASE_S = None,
    log_level: flags.LOG_LEVEL = None,
    log_format: flags.LOG_FORMAT = None,
) -> int:
    """Run one or more models for the gateways of a cluster. SIGTERM drains: its requests go on at other workers.

    Every flag is also a variable, LLMACTORS_REDIS for --redis, and a key of the configuration file.
    """
    given = {
        "redis": redis,
        "name": name,
        "model": model or None,
        "metrics_bind": metrics_bind,
        "namespace": namespace,
        "slots": slots,
        "context": context,
        "threads": threads,
        "drain_s": drain_s,
        "hung_s": hung_s,
        "lease_s": lease_s,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = load(given, file=config)
    redis_url(settings)
    set_up_logging(settings)
    listening = ListeningSocket(settings.metrics_bind, flag="--metrics-bind") if settings.metrics_bind else None
    try:
        node = WorkerNode(settings, serve_models(settings), listening)
        run_until_signal(node, lambda: _say_ready(node))
    finally:
        if listening is not None:
            listening.close()
    return 0


def _say_ready(node: WorkerNode) -> None:
    names = ", ".join(node.directory.names)
    where = "" if node.listening is None else f", metrics on {node.listening.url}"
    print(f"llmactors worker {node.name} serves {names}{where}", flush=True)
