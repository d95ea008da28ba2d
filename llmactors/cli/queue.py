"""Show the queue of a cluster and its dead letters, and requeue or purge these."""

import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import cyclopts
import redis as redis_py
import trio
from rich.markup import escape
from rich.table import Table

from llmactors.cli import tables
from llmactors.cli.flags import with_settings
from llmactors.config import Configuration, Settings
from llmactors.errors import ConfigError, NotFound, OperatorError, Overloaded, Unavailable
from llmactors.http.request_id import new_request_id
from llmactors.ledger import SubmitOutcome
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.redis.codec import decode_request
from llmactors.messages import GenerateRequest
from llmactors.redislink.names import RedisNames
from llmactors.system.cluster_node import redis_url
from llmactors.system.wiring import ledger_settings

app = cyclopts.App(name="queue", help=__doc__)

_TIMEOUT_S = 5.0
_REQUEUED_GRACE_MS = 600_000
"""A requeued request lives for so long without a reader: its first client has read its end."""


@attrs.frozen
class _Letter:
    """One dead letter, and where it lies."""

    place: bytes
    request: GenerateRequest
    attempt: int
    cause: str
    at_ms: int


@app.default
@app.command(name="show")
@with_settings("queue")
def show(configuration: Configuration) -> int:
    """Show how many requests wait, by model and class, and how many run. The default."""
    with _connected(configuration.settings) as (client, prefix):
        waiting = _waiting(client, prefix)
        counters = {name.decode(): int(value) for name, value in client.hgetall(f"{prefix}counters").items()}
        workers = client.zcard(f"{prefix}workers")
        dead = client.xlen(f"{prefix}dead_letters")
    table = Table("model", "class", "waiting")
    for (model, class_), depth in sorted(waiting.items()):
        table.add_row(escape(model), escape(class_), str(depth))
    if waiting:
        tables.show(table)
    print(
        f"waiting {sum(waiting.values())}, running {counters.get('running', 0)}, workers {workers}, dead letters {dead}"
    )
    return 0


@app.command(name="dead")
@with_settings("queue")
def dead(configuration: Configuration) -> int:
    """List the requests that were given up, with the cause. Prompts are not shown."""
    with _connected(configuration.settings) as (client, prefix):
        letters = _letters(client, prefix)
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


@app.command(name="requeue")
@with_settings("queue")
def requeue(configuration: Configuration, request_id: str, /) -> int:
    """Submit a dead letter anew, under an id of its own: the stream of the first has ended for good."""
    settings = configuration.settings
    with _connected(settings) as (client, prefix):
        letter = next((each for each in _letters(client, prefix) if each.request.id == request_id), None)
        if letter is None:
            raise NotFound(f"there is no dead letter {request_id}; see `queue dead`")
        again = attrs.evolve(letter.request, id=new_request_id(), deadline_ms=None, resume_grace_ms=_REQUEUED_GRACE_MS)
        trio.run(_submit, settings, again)
        client.xdel(f"{prefix}dead_letters", letter.place)
    print(f"requeued as {again.id}: its answer is at /v1/streams/{again.id}")
    return 0


@app.command(name="purge")
@with_settings("queue")
def purge(configuration: Configuration) -> int:
    """Forget all dead letters."""
    with _connected(configuration.settings) as (client, prefix):
        forgotten = client.xtrim(f"{prefix}dead_letters", maxlen=0, approximate=False)
    print(f"forgot {forgotten} dead letters")
    return 0


async def _submit(settings: Settings, request: GenerateRequest) -> None:
    ledger = RedisLedger(
        redis_url(settings), ledger_settings(settings), RedisLedgerSettings(namespace=settings.namespace)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        outcome = await ledger.submit(request)
        nursery.cancel_scope.cancel(reason="the command is done")
    if outcome is SubmitOutcome.OVERLOADED:
        raise Overloaded("the queue is full; try again in a moment")


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[tuple[Any, str]]:
    """redis-py's ordinary client, and the prefix of the ledger's keys."""
    url = redis_url(settings)
    try:
        with redis_py.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=None
        ) as client:
            yield client, RedisNames(settings.namespace).ledger_prefix
    except ValueError as error:
        raise ConfigError("this command takes a URL that begins with redis://, rediss:// or unix://") from error
    except redis_py.AuthenticationError as error:
        raise OperatorError(f"Redis does not let us in: {error}") from error
    except redis_py.RedisError as error:
        raise Unavailable(f"cannot ask Redis: {error}") from error


def _waiting(client: Any, prefix: str) -> Counter[tuple[str, str]]:
    """How many wait, by model and class. The key is `waiting:CLASS:LENGTH:MODEL:TENANT`, LENGTH being the model's."""
    found: Counter[tuple[str, str]] = Counter()
    start = f"{prefix}waiting:"
    for key in client.scan_iter(f"{start}*", count=1000):
        class_, length, rest = bytes(key)[len(start) :].split(b":", 2)
        model = rest[: int(length)].decode("utf-8", "replace")
        found[model, class_.decode()] += client.zcard(key)
    return found


def _letters(client: Any, prefix: str) -> list[_Letter]:
    return [
        _Letter(
            place,
            decode_request(fields[b"body"]),
            int(fields[b"attempt"]),
            fields[b"cause"].decode("utf-8", "replace"),
            int(fields[b"at"]),
        )
        for place, fields in client.xrange(f"{prefix}dead_letters")
    ]
