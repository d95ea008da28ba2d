"""Show the queue of a cluster and its dead letters, and requeue or purge these."""

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import cyclopts
import trio
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from llmactors.cli import tables
from llmactors.cli.flags import with_settings
from llmactors.config import Configuration, Settings
from llmactors.ledger import DeadRequest, Ledger, LedgerStatistics, QueueDepth
from llmactors.ledger.dead_letters import purge_dead_letter, requeue_dead_letter
from llmactors.system.operator_access import cluster_ledger

app = cyclopts.App(name="queue", help=__doc__)

T = TypeVar("T")
_COUNTS = {"waiting": "queued", "running": "running", "workers": "workers", "dead_letters": "dead_letters"}
"""The names of the counts in the JSON of `show`, and in the ledger's statistics."""


@app.default
@app.command(name="show")
@with_settings("queue")
def show(configuration: Configuration, *, as_json: tables.AS_JSON = False) -> int:
    """Show how many requests wait, by model and class, and how many run. `queue` alone does the same."""

    async def look(ledger: Ledger) -> tuple[list[QueueDepth], LedgerStatistics]:
        return await ledger.queue_depths(), await ledger.statistics()

    depths, statistics = _with_ledger(configuration.settings, look)
    if as_json:
        queues = [{"model": each.model, "class": each.priority, "waiting": each.waiting} for each in depths]
        counts = {name: getattr(statistics, of) for name, of in _COUNTS.items()}
        tables.show_json({"queues": queues, **counts})
        return 0
    table = Table("model", "class", "waiting")
    for depth in depths:
        table.add_row(escape(depth.model), str(depth.priority), str(depth.waiting))
    if depths:
        tables.show(table)
    print(
        f"waiting {statistics.queued}, running {statistics.running}, workers {statistics.workers}, "
        f"dead letters {statistics.dead_letters}"
    )
    return 0


@app.command(name="dead")
@with_settings("queue")
def dead(configuration: Configuration, *, as_json: tables.AS_JSON = False) -> int:
    """List the dead letters, which are requests that were given up, with the cause. Prompts are not shown."""

    async def look(ledger: Ledger) -> list[DeadRequest]:
        return await ledger.dead_letters()

    letters = _with_ledger(configuration.settings, look)
    if as_json:
        tables.show_json({"dead_letters": [_fields(each) for each in reversed(letters)], "total": len(letters)})
        return 0
    if not letters:
        print("there are no dead letters")
        return 0
    table = Table("id", "when", "model", "tenant", "attempt", "cause")
    for letter in letters:
        when = dt.datetime.fromtimestamp(letter.at_ms / 1000, dt.UTC).isoformat(timespec="seconds")
        request = letter.request
        cells = (request.id, when, request.model, request.tenant, str(letter.attempt), letter.cause)
        table.add_row(*map(escape, cells))
    tables.show(table)
    return 0


def _fields(letter: DeadRequest) -> dict[str, object]:
    """A dead letter as `GET /v1/operator/dead-letters` shows it."""
    request = letter.request
    return {
        "id": request.id,
        "tenant": request.tenant,
        "model": request.model,
        "cause": letter.cause,
        "attempts": letter.attempt,
        "unix_s": letter.at_ms / 1000,
    }


@app.command(name="requeue")
@with_settings("queue")
def requeue(
    configuration: Configuration,
    request_id: Annotated[str, Parameter(help="The id of the request, as `queue dead` shows it.")],
    /,
) -> int:
    """Submit a dead letter again, under a new id. The stream of the old id has ended for good."""

    async def submit(ledger: Ledger) -> str:
        return await requeue_dead_letter(ledger, request_id)

    new_id = _with_ledger(configuration.settings, submit)
    print(f"requeued as {new_id}: its answer is at /v1/streams/{new_id}")
    return 0


@app.command(name="purge")
@with_settings("queue")
def purge(
    configuration: Configuration,
    request_id: Annotated[str | None, Parameter(help="The id of the request. By default, all dead letters.")] = None,
    /,
) -> int:
    """Forget the dead letters of one request, or all dead letters."""

    async def forget(ledger: Ledger) -> int:
        return await (ledger.purge() if request_id is None else purge_dead_letter(ledger, request_id))

    forgotten = _with_ledger(configuration.settings, forget)
    print(f"forgot {forgotten} dead letters")
    return 0


def _with_ledger(settings: Settings, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Runs `work` on the ledger of the cluster that `settings` name. Raises `ConfigError` if they name no cluster."""

    async def run() -> T:
        async with cluster_ledger(settings) as ledger:
            return await work(ledger)

    return trio.run(run)
