"""`bench`: how fast this machine serves, in half a minute."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from llmactors.cli.load import JSON, check_writable, console, write
from llmactors.cluster.parent_death import ends_with_this_process
from llmactors.config import Settings, child_environment
from llmactors.errors import ModelError
from llmactors.load.measure import measure
from llmactors.load.plan import Check, Plan
from llmactors.load.progress import ProgressBar
from llmactors.load.report import exit_code
from llmactors.load.table import show
from llmactors.load.target import Target

_START_S = 30.0
_STOP_S = 10.0


def command(
    *,
    clients: Annotated[
        int, Parameter(name=["--clients", "--concurrency"], help="How many requests run at a time.")
    ] = 60,
    requests: Annotated[int, Parameter(help="How many requests to send.")] = 600,
    max_tokens: Annotated[int, Parameter(help="The length of each answer, in tokens.")] = 64,
    json: JSON = None,
) -> int:
    """Measure how fast this machine serves, with a simulated model that takes no time.

    The command starts a node of its own. Many requests at a time show how much the platform can do; one request at a
    time shows what the platform adds to a model's time. Both take half a minute at most. To measure a running server,
    use `load`.
    """
    check_writable(json)
    shown = console(json)
    cores = sorted(os.sched_getaffinity(0))
    results: dict[str, dict[str, Any]] = {}
    with _node(cores[:1] if len(cores) > 1 else ()) as (url, pid):
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[-1:])
        many = Plan(
            target=Target.parse(url),
            check=Check.MOCK,
            clients=clients,
            requests=requests,
            max_tokens=max_tokens,
            limit_s=15.0,
        )
        one = attrs.evolve(many, clients=1, requests=min(requests, 100), limit_s=8.0)
        for title, plan in ((f"{clients} requests at a time", many), ("one request at a time", one)):
            with ProgressBar(plan, cores=cores[:1]) as bar:
                result = results[title] = measure(
                    plan, warmup=plan.clients, server_pids=(pid,), on_progress=bar if bar.draws else None
                )
            shown.print(f"\n[bold]{title}, {max_tokens} tokens each[/]")
            show(result, shown)
            if result["ended"] == "interrupted":
                break
    write(results, json)
    return max(exit_code(result) for result in results.values())


@contextlib.contextmanager
def _node(cores: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The URL and the pid of a node in a process of its own. The process ends with the block, or with this process."""
    command = [sys.executable, "-m", "llmactors", "--model", "mock", "--bind", "127.0.0.1:0", "--log-level", "error"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        ends_with_this_process(command),
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(Settings()),
        process_group=0,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if cores:
            os.sched_setaffinity(process.pid, cores)
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        line = process.stdout.readline() if ready else ""
        if " on http://" not in line:
            raise ModelError(f"the node to be measured did not start within {_START_S:g} s")
        yield line.split()[-1], process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
