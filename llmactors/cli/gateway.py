"""`gateway`: the front of a cluster."""

from typing import Annotated

from cyclopts import Parameter

from llmactors.cli import flags
from llmactors.cli.running import run_until_signal, set_up_logging
from llmactors.config import load
from llmactors.http.server import ListeningSocket
from llmactors.system.cluster_node import redis_url
from llmactors.system.gateway_node import GatewayNode


def command(
    *,
    redis: flags.REDIS = None,
    name: flags.NAME = None,
    bind: Annotated[str | None, Parameter(help="HOST:PORT to listen on. [127.0.0.1:8000]")] = None,
    config: flags.CONFIG = None,
    namespace: flags.NAMESPACE = None,
    keys: flags.KEYS = None,
    rate_limit: flags.RATE_LIMIT = None,
    rate_algorithm: flags.RATE_ALGORITHM = None,
    max_queued: flags.MAX_QUEUED = None,
    resume_grace_s: flags.RESUME_GRACE_S = None,
    drain_s: flags.DRAIN_S = None,
    worker_grace_s: Annotated[
        float | None, Parameter(help="How long requests wait for a model whose last worker left. [10]")
    ] = None,
    lease_s: flags.LEASE_S = None,
    log_level: flags.LOG_LEVEL = None,
    log_format: flags.LOG_FORMAT = None,
    access_log: flags.ACCESS_LOG = None,
) -> int:
    """Serve HTTP and WebSocket for the workers of a cluster. SIGTERM drains: open streams end, new ones are refused.

    Every flag is also a variable, LLMACTORS_REDIS for --redis, and a key of the configuration file. Callers are
    asked for an API key if --keys says where there are some, or if GATEWAY_API_KEY is set.
    """
    given = {
        "redis": redis,
        "name": name,
        "bind": bind,
        "namespace": namespace,
        "keys": keys,
        "rate_limit": rate_limit,
        "rate_algorithm": rate_algorithm,
        "max_queued": max_queued,
        "resume_grace_s": resume_grace_s,
        "drain_s": drain_s,
        "worker_grace_s": worker_grace_s,
        "lease_s": lease_s,
        "log_level": log_level,
        "log_format": log_format,
        "access_log": access_log,
    }
    settings = load(given, file=config)
    redis_url(settings)
    set_up_logging(settings)
    listening = ListeningSocket(settings.bind)
    try:
        node = GatewayNode(settings, listening)
        run_until_signal(node, lambda: print(f"llmactors gateway {node.name} on {listening.url}", flush=True))
    finally:
        listening.close()
    return 0
