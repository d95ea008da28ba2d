"""Make API keys, list them, change their limits, and end them.

The keys are in a file, or in the Redis server of a cluster.
"""

import datetime as dt
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import attrs
import cyclopts
import trio
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from llmactors.access.keys.file import FileKeyStore
from llmactors.access.keys.record import KeyRecord, KeyStatus
from llmactors.access.keys.store import Change, KeyStore
from llmactors.access.keys.text import NewKey, new_key, read_key
from llmactors.cli import tables
from llmactors.cli.descriptors import complain
from llmactors.cli.flags import with_settings
from llmactors.cli.key_limits import BUDGET, KEY_BUDGET, changed_limits, limits_text
from llmactors.config import KEYS_IN_REDIS, Configuration, parse_duration
from llmactors.errors import ConfigError, Conflict, NotFound
from llmactors.limiter.limits import Limits
from llmactors.system.operator_access import cluster_keys

T = TypeVar("T")

app = cyclopts.App(name="keys", help=__doc__)

OPERATORS = "operators"
"""The tenant of operators' keys, unless another is named."""
_WHICH = Annotated[str, Parameter(help="The id of the key, as `keys list` shows it, or the key itself.")]


@app.command(name="create")
@with_settings("keys")
def create(
    configuration: Configuration,
    *,
    tenant: Annotated[
        str | None,
        Parameter(
            help="The tenant that gets the key. A tenant does not see the streams of others. "
            f"The key of an operator belongs to the tenant {OPERATORS!r} by default.",
            show_default=False,
        ),
    ] = None,
    operator: Annotated[
        bool,
        Parameter(
            help="The key opens the console and the routes for operators, which show and change what all tenants do.",
            negative=(),
        ),
    ] = False,
    name: Annotated[str, Parameter(help="A name by which you recognise the key.", show_default=False)] = "",
    models: Annotated[
        list[str] | None,
        Parameter(
            help="A model that the key may use. Repeat the flag for more models. By default, all models.", negative=()
        ),
    ] = None,
    priority: Annotated[
        int, Parameter(help="The best class that the key may ask for: 0, 1 or 2. Class 0 is served first.")
    ] = 1,
    weight: Annotated[
        float, Parameter(help="The tenant's share of its class: weight 2 gets twice as many tokens as weight 1.")
    ] = 1.0,
    requests_per_minute: Annotated[int | None, Parameter(help="The most requests of the tenant in a minute.")] = None,
    tokens_per_minute: Annotated[
        int | None, Parameter(help="The most tokens of the tenant's prompts and answers in a minute.")
    ] = None,
    tokens_per_day: Annotated[
        int | None, Parameter(help="The most tokens of the tenant's prompts and answers in a day of UTC.")
    ] = None,
    concurrent: Annotated[int | None, Parameter(help="The most requests that the tenant has open at once.")] = None,
    budget: BUDGET = None,
    key_budget: KEY_BUDGET = None,
    expires: Annotated[
        str | None, Parameter(help="The key ends after this time, as in 30d or 12h. By default, never.")
    ] = None,
) -> int:
    """Make a key, and print the key to standard output.

    The key is shown this once, because only its hash is kept.
    """
    if tenant is None:
        if not operator:
            raise ConfigError("name the tenant that gets the key: --tenant NAME")
        tenant = OPERATORS
    now = time.time()
    key = new_key()
    record = KeyRecord(
        operator=operator,
        id=key.id,
        tenant=tenant,
        hash=key.digest,
        created=now,
        name=name,
        expires=None if expires is None else now + _life(expires),
        models=frozenset(models) if models else None,
        best_priority=priority,
        weight=weight,
        limits=changed_limits(
            Limits(
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                tokens_per_day=tokens_per_day,
                concurrent=concurrent,
            ),
            counts={},
            budgets=budget,
            key_budgets=key_budget,
        ),
    )
    _with_store(configuration, lambda store: store.add(record))
    _show(key, f"key {key.id} of {'an operator' if operator else f'tenant {tenant}'}; the key is shown this once")
    return 0


@app.default
@app.command(name="list")
@with_settings("keys")
def show(configuration: Configuration, *, as_json: tables.AS_JSON = False) -> int:
    """List all keys and what they allow. `keys` alone does the same."""
    records = _with_store(configuration, lambda store: store.records())
    if as_json:
        now = time.time()
        tables.show_json({"keys": [_fields(record, now) for record in records]})
        return 0
    if not records:
        print("there are no keys; a node that is started with these --keys refuses every caller")
        return 0
    now = time.time()
    table = Table("id", "tenant", "name", "state", "models", "class", "weight", "limits", "created")
    for record in records:
        table.add_row(*map(escape, _cells(record, now)))
    tables.show(table)
    return 0


@app.command(name="update")
@with_settings("keys")
def update(
    configuration: Configuration,
    key: _WHICH,
    /,
    *,
    requests_per_minute: Annotated[str | None, Parameter(help="The most requests of the tenant in a minute.")] = None,
    tokens_per_minute: Annotated[
        str | None, Parameter(help="The most tokens of the tenant's prompts and answers in a minute.")
    ] = None,
    tokens_per_day: Annotated[
        str | None, Parameter(help="The most tokens of the tenant's prompts and answers in a day of UTC.")
    ] = None,
    concurrent: Annotated[str | None, Parameter(help="The most requests that the tenant has open at once.")] = None,
    budget: BUDGET = None,
    key_budget: KEY_BUDGET = None,
) -> int:
    """Change the limits of a key at once, at every gateway. What was used before counts on.

    A limit without its flag stays as it is. The value `none` takes a limit away. The limits of a request are those of
    the key with which the request comes, so give all keys of a tenant the same.
    """
    counts = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_day": tokens_per_day,
        "concurrent": concurrent,
    }
    if not any(each is not None for each in (*counts.values(), budget, key_budget)):
        raise ConfigError("say what to change, as in --requests-per-minute 60 or --budget 10/day; see `keys update -h`")

    def change(record: KeyRecord) -> KeyRecord:
        limits = changed_limits(record.limits, counts=counts, budgets=budget, key_budgets=key_budget)
        return attrs.evolve(record, limits=limits)

    key_id = _id_of(key)
    record = _with_store(configuration, lambda store: _change(store, key_id, change))
    print(f"key {record.id} of tenant {record.tenant} has the limits: {limits_text(record.limits)}")
    return 0


@app.command(name="revoke")
@with_settings("keys")
def revoke(configuration: Configuration, key: _WHICH, /) -> int:
    """End a key for good. Its next request is refused, and its open WebSockets are closed."""
    key_id = _id_of(key)
    record = _with_store(configuration, lambda store: _change(store, key_id, lambda record: record.revoke(time.time())))
    print(f"key {record.id} of tenant {record.tenant} is revoked")
    return 0


@app.command(name="rotate")
@with_settings("keys")
def rotate(
    configuration: Configuration,
    key: _WHICH,
    /,
    *,
    overlap: Annotated[str, Parameter(help="How long the old secret stays good, as in 1h or 0s.")] = "1h",
    expires: Annotated[
        str | None, Parameter(help="The key ends after this time, as in 30d. By default, as before.")
    ] = None,
) -> int:
    """Give a key a new secret, and print the new key to standard output.

    The id of the key and what the key allows stay as they are.
    """
    now = time.time()
    fresh = new_key(_id_of(key))
    overlap_s = parse_duration(overlap, "overlap")
    end = None if expires is None else now + parse_duration(expires, "expires")

    def change(record: KeyRecord) -> KeyRecord:
        extended = record if end is None else attrs.evolve(record, expires=end)
        if (state := extended.state(now)) is not KeyStatus.GOOD:
            raise Conflict(f"key {record.id} is {state.value}; make a new one with `keys create`")
        return extended.rotate(fresh, now, overlap_s)

    record = _with_store(configuration, lambda store: _change(store, fresh.id, change))
    _show(fresh, f"key {record.id} of tenant {record.tenant}; its old secret is good for {overlap} more")
    return 0


async def _change(store: KeyStore, key_id: str, change: Change) -> KeyRecord:
    """Changes a key. Raises `NotFound`, which names the keys of a tenant where `key_id` is the tenant's name."""
    try:
        return await store.change(key_id, change)
    except NotFound:
        own = [record.id for record in await store.records() if record.tenant == key_id]
        if not own:
            raise
        raise NotFound(f"{key_id!r} is a tenant, whose keys are {', '.join(own)}; name one of these") from None


def _show(key: NewKey, note: str) -> None:
    print(key.text, flush=True)
    complain(note)


def _id_of(text: str) -> str:
    """The id in `text`, which may be the whole key. The secret of a key is in no error."""
    credential = read_key(text.encode())
    if credential is not None:
        return credential.key_id
    if len(text) > len(new_key().id):
        raise ConfigError("the text is neither a key nor the id of a key; see `keys list`")
    return text


def _with_store(configuration: Configuration, work: Callable[[KeyStore], Awaitable[T]]) -> T:
    settings = configuration.settings
    names_file = settings.keys is not None and settings.keys != KEYS_IN_REDIS
    redis_is_flag = configuration.is_from_flag("redis")
    if names_file and configuration.is_from_flag("keys") and redis_is_flag:
        raise ConfigError("give --keys FILE or --redis URL, not both")
    in_file = names_file and not redis_is_flag
    if not in_file and not settings.redis:
        raise ConfigError("say where the keys are: --keys FILE, or --redis URL for those of a cluster")

    async def run() -> T:
        if in_file:
            return await work(FileKeyStore(Path(str(settings.keys))))
        async with cluster_keys(settings) as store:
            return await work(store)

    return trio.run(run)


def _life(text: str) -> float:
    life_s = parse_duration(text, "expires")
    if not life_s:
        raise ConfigError("`expires` must be above 0; the key would never be good")
    return life_s


def _cells(record: KeyRecord, now: float) -> tuple[str, ...]:
    return (
        record.id,
        record.tenant,
        record.name,
        f"{_state(record, now)}{', operator' if record.operator else ''}",
        "all" if record.models is None else ", ".join(sorted(record.models)),
        str(record.best_priority),
        f"{record.weight:g}",
        limits_text(record.limits),
        _day(record.created),
    )


def _fields(record: KeyRecord, now: float) -> dict[str, object]:
    """The record as JSON, without the hash."""
    limits = attrs.asdict(record.limits)
    return {
        "id": record.id,
        "tenant": record.tenant,
        "name": record.name,
        "operator": record.operator,
        "state": record.state(now).value,
        "models": None if record.models is None else sorted(record.models),
        "class": record.best_priority,
        "weight": record.weight,
        "limits": {name: most for name, most in limits.items() if most},
        "created_unix_s": record.created,
        "expires_unix_s": record.expires,
        "revoked_unix_s": record.revoked,
        "old_secrets": sum(secret.until > now for secret in record.former),
    }


def _state(record: KeyRecord, now: float) -> str:
    state = record.state(now)
    if state is KeyStatus.REVOKED:
        return f"revoked {_day(record.revoked or now)}"
    if state is KeyStatus.EXPIRED:
        return f"expired {_day(record.expires or now)}"
    until = "" if record.expires is None else f" until {_day(record.expires)}"
    former = sum(secret.until > now for secret in record.former)
    return f"active{until}{f', {former} old secret' if former else ''}"


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
