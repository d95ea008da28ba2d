"""`up`: a whole cluster on this machine."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import attrs
import platformdirs
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from llmactors.cli import flags
from llmactors.cli.models import serve_models
from llmactors.cli.running import run_until_signal, set_up_logging
from llmactors.cluster.local_cluster import ClusterMember, LocalCluster
from llmactors.config import load
from llmactors.errors import ConfigError


def command(
    *,
    gateways: Annotated[int, Parameter(help="How many gateways.")] = 2,
    workers: Annotated[int, Parameter(help="How many workers.")] = 2,
    redis: flags.REDIS = None,
    model: flags.MODEL = None,
    bind: Annotated[
        str | None, Parameter(help="HOST:PORT of the first gateway; the others take the next. [127.0.0.1:8000]")
    ] = None,
    data_dir: Annotated[Path | None, Parameter(help="Where the server of our own keeps its data.")] = None,
    config: flags.CONFIG = None,
    namespace: flags.NAMESPACE = None,
    slots: flags.SLOTS = None,
    context: flags.CONTEXT = None,
    threads: flags.THREADS = None,
    keys: flags.KEYS = None,
    max_queued: flags.MAX_QUEUED = None,
    drain_s: flags.DRAIN_S = None,
    lease_s: flags.LEASE_S = None,
    log_level: flags.LOG_LEVEL = None,
    log_format: flags.LOG_FORMAT = None,
) -> int:
    """Run gateways, workers and, without --redis, a Redis server on this machine. What dies is started again.

    Ctrl-C drains: the gateways first, then the workers, then the server.
    """
    if gateways < 1 or workers < 1:
        raise ConfigError("a cluster needs at least one gateway and one worker")
    given = {
        "redis": redis,
        "model": model or None,
        "bind": bind,
        "namespace": namespace,
        "slots": slots,
        "context": context,
        "threads": threads,
        "keys": keys,
        "max_queued": max_queued,
        "drain_s": drain_s,
        "lease_s": lease_s,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = load(given, file=config)
    set_up_logging(settings)
    # Once and here, so that the workers do not all download it, and a wrong name is told at once.
    serve_models(settings)
    if settings.threads is None:
        settings = attrs.evolve(settings, threads=_share_of_cores(workers))
    cluster = LocalCluster(
        settings,
        gateways=gateways,
        workers=workers,
        data=data_dir or Path(platformdirs.user_data_dir("llmactors")) / "redis",
        on_ready=lambda name, line: print(f"{name}: {line}", flush=True),
        on_line=lambda name, line: print(f"{name} | {line}", file=sys.stderr, flush=True),
    )
    run_until_signal(cluster, lambda: _say_ready(cluster.members, None if settings.redis else cluster.settings.redis))
    return 0


def _share_of_cores(workers: int) -> int:
    """Workers that each take all cores take them from each other."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _say_ready(members: Sequence[ClusterMember], own_redis: str | None) -> None:
    table = Table("node", "role", "where")
    if own_redis is not None:
        table.add_row("redis", "ledger", own_redis)
    for member in members:
        table.add_row(member.name, member.role, member.url if member.role == "gateway" else f"{member.url}/metrics")
    console = Console(highlight=False)
    console.print(table)
    url = next(member.url for member in members if member.role == "gateway")
    print(
        f"\n  curl -N {url}/v1/generate -H 'content-type: application/json' \\\n"
        """       -d '{"prompt": "Why is the sky blue?", "stream": true}'\n""",
        flush=True,
    )
    print(f"  python -m llmactors tree --cluster --redis {own_redis or 'URL'}\n\nthe cluster is up", flush=True)
