"""`up`: a whole cluster on this machine."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from llmactors.backends.build import serve_models
from llmactors.backends.cores import usable_cores
from llmactors.cli.flags import with_settings
from llmactors.cli.models import fetch_missing
from llmactors.cli.running import logs_are_json, run_until_signal, set_up_output
from llmactors.cluster.local_cluster import ClusterMember, LocalCluster
from llmactors.config import Configuration
from llmactors.config.user_folders import data_of_user
from llmactors.errors import ConfigError, OperatorError
from llmactors.model_pool.budget import default_memory
from llmactors.telemetry import Metrics
from llmactors.telemetry.standard_streams import write_log_line
from llmactors.telemetry.tree import LoggingObserver


@with_settings("up")
def command(
    configuration: Configuration,
    *,
    gateways: Annotated[int, Parameter(help="How many gateways to run.")] = 2,
    workers: Annotated[int, Parameter(help="How many workers to run.")] = 2,
    data_dir: Annotated[
        Path | None,
        Parameter(
            help="Where the Redis server that `up` starts keeps its data. By default, the user's data directory."
        ),
    ] = None,
) -> int:
    """Run a local cluster: gateways, workers and, without --redis, a Redis server.

    A process that dies is started again. Ctrl-C lets open streams end, and ends the gateways first, then the workers,
    then the server. Each flag is also a variable, as LLMACTORS_MODEL for --model, and a key of the configuration file,
    as model.
    """
    if gateways < 1 or workers < 1:
        raise ConfigError(f"a cluster needs at least one gateway and one worker, not {gateways} and {workers}")
    settings = configuration.settings
    set_up_output(settings)
    # The models are fetched here, so that a model is downloaded once and not by every worker, and a wrong name is
    # reported at once.
    fetch_missing(model for model in serve_models(settings) if model.on_demand is None)
    if settings.models and settings.model_memory is None:
        settings = attrs.evolve(settings, model_memory=str(default_memory() // workers))
    if settings.threads is None:
        settings = attrs.evolve(settings, threads=_share_of_cores(workers))
    cluster = LocalCluster(
        settings,
        gateways=gateways,
        workers=workers,
        data=data_dir or _data_of_user(),
        on_ready=lambda name, line: print(f"{name}: {line}", flush=True),
        on_line=partial(_relay, as_json=logs_are_json(settings)),
        observer=LoggingObserver(Metrics()),
    )
    run_until_signal(cluster, lambda: _say_ready(cluster.members, None if settings.redis else cluster.settings.redis))
    return 0


def _relay(node: str, line: str, *, as_json: bool) -> None:
    """Writes a line of a child's output to the log of the cluster, with the name of the node."""
    if not as_json:
        write_log_line(f"{node} | {line}\n")
        return
    try:
        found = json.loads(line)
    except ValueError:
        found = line
    fields = found if isinstance(found, dict) else {"event": line, "level": "info", "logger": node}
    write_log_line(json.dumps({**fields, "node": node}, ensure_ascii=False) + "\n")


def _data_of_user() -> Path:
    """The place of the Redis server's data. Raises `OperatorError` for a user without a home."""
    found = data_of_user()
    if found is None:
        raise OperatorError("this user has no home directory: set HOME, or choose a place for the data with --data-dir")
    return Path(found) / "redis"


def _share_of_cores(workers: int) -> int:
    """The cores of one worker. Workers that each compute on all cores slow each other down."""
    return max(1, usable_cores() // workers)


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
