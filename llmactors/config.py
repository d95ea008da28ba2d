"""The node's settings: frozen, read once from defaults, a TOML file, `LLMACTORS_…` variables and flags, in that order.

Every setting has one name: `drain_s` in the file, `LLMACTORS_DRAIN_S` in the environment, and, for the common ones,
`--drain-s` as a flag.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs
import msgspec

from llmactors.errors import ConfigError

PREFIX = "LLMACTORS_"
KEYS_IN_REDIS = "redis"
"""For the setting `keys`."""
_RATE = re.compile(r"(?P<requests>[1-9][0-9]{0,8})/(?P<period>s|min|h|[0-9]+(?:\.[0-9]+)?s)")
_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CHOICES = {
    "rate_algorithm": ("gcra", "fixed_window"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("auto", "json", "console"),
}
LISTS = ("model", "allowed_origins")
"""The settings that may have several values: as variables, with spaces in between."""
_PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0}

_MOST = 10**9
"""Of seconds: thirty years. Without an end there is no moment at which it is over, and no number for Redis."""

Seconds = Annotated[float, msgspec.Meta(ge=0, le=_MOST)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=_MOST)]
Count = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


@attrs.frozen(kw_only=True)
class Settings:
    """All of one node. Times in seconds."""

    model: tuple[str, ...] = ("smollm2-135m",)
    """What to serve: NAME, PATH.gguf, hf:OWNER/REPO/FILE, openai:URL,model=NAME, MODULE:NAME, mock or mock:OPTIONS;
    `ALIAS=…` names it. The first is the default of requests that name none."""
    bind: str = "127.0.0.1:8000"
    api_key: str | None = attrs.field(default=None, repr=False)
    """Asked of every caller; None asks for none. Also read from GATEWAY_API_KEY."""
    keys: str | None = None
    """Where the API keys are: the path of a key file, or `redis` for those of the cluster. None: there are none but
    `api_key`. A store without a key lets nobody in."""
    max_auth_failures: Annotated[int, msgspec.Meta(ge=0, le=_MOST)] = 20
    """How many wrong keys an address may show in a minute; 0: as many as it likes."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of which origins may open a WebSocket, besides those of the same host: https://app.example.com, or *."""
    slots: Count | None = None
    """How many sequences a model decodes at once; None leaves it to the backend."""
    context: Annotated[int, msgspec.Meta(ge=16, le=_MOST)] | None = None
    """Tokens per sequence; None leaves it to the backend."""
    threads: Count | None = None
    """Threads per model; None: as many as the process may use."""
    rate_limit: str | None = None
    """`COUNT/PERIOD` per caller, as in 60/min, 5/s, 100/10s; None: no limit. Over all gateways of a cluster; they
    should agree on it."""
    rate_algorithm: str = "gcra"
    """`gcra`, or `fixed_window`."""
    max_queued: Count = 1024
    """Requests that may wait; more are refused with OVERLOADED."""
    max_body_bytes: Count = 1024 * 1024
    resume_grace_s: Seconds = 10.0
    """How long a stream lives without a reader before it is cancelled."""
    background_s: Seconds = 3600.0
    """How long a response in the background lives without anybody who follows it."""
    retention_s: Seconds = 60.0
    """How long the log of an ended request can be read again."""
    tombstone_s: Seconds = 600.0
    """How long after that its id, and its idempotency key, is answered with 410 instead of being free again."""
    drain_s: Seconds = 20.0
    """How long a shutdown waits for open streams."""
    write_s: Seconds = 20.0
    """A client that takes nothing for this long is cut off."""
    keep_alive_s: PositiveSeconds = 15.0
    """Silence on a stream after which a keep-alive is sent."""
    flush_interval_s: Seconds = 0.01
    """A stream writes at most once in this time."""
    batch_window_s: Seconds = 0.02
    """How long a request may wait for others to share its static batch, where there is room beside one that runs."""
    stalled_s: PositiveSeconds = 5.0
    """A backend that gives nothing for this long makes the node not ready."""
    hung_s: PositiveSeconds = 60.0
    """A backend that gives nothing for this long is restarted."""
    redis: str | None = attrs.field(default=None, repr=False)
    """Where the ledger of a cluster is: redis://…, rediss://… or unix://…; only for the roles across processes."""
    namespace: str = "main"
    """Clusters of different namespaces share a Redis server without seeing each other."""
    name: str | None = None
    """This node's name in its cluster; None: made of its role, its host and its pid."""
    lease_s: PositiveSeconds = 1.5
    """A worker of a cluster that is silent for this long loses its requests to others."""
    quarantine_from_attempt: Count = 3
    """From this attempt on a request runs alone, and a crash of its worker convicts it. More where machines are lost
    often for other reasons: each request that ran on so many of them is suspected."""
    worker_grace_s: Seconds = 10.0
    """How long requests are accepted for a model whose last worker has left."""
    metrics_bind: str = "127.0.0.1:9100"
    """Where a worker serves its metrics and its health; empty: nowhere."""
    log_level: str = "info"
    log_format: str = "auto"
    """`json`, `console`, or `auto`: console where stderr is a terminal."""
    access_log: bool = False


def load(flags: Mapping[str, object], *, file: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings. `flags` that are None were not given. Raises `ConfigError` that names what is wrong, and where."""
    settings = Settings()
    for source, values in (
        (f"{file}", {} if file is None else _from_file(file)),
        ("environment", _from_environment(environ)),
        ("flags", {name: value for name, value in flags.items() if value is not None}),
    ):
        settings = _evolve(settings, values, source)
    return settings


def parse_rate(text: str | None) -> tuple[int, float] | None:
    """`COUNT/PERIOD` as (requests, seconds); None for None. Raises `ConfigError`."""
    if text is None:
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"`rate_limit` must be COUNT/PERIOD, as in 60/min, 5/s, 1000/h or 100/10s, not {text!r}")
    period = match["period"]
    seconds = _PERIODS.get(period) or float(period[:-1])
    if not 0 < seconds <= _MOST:
        raise ConfigError(f"`rate_limit` needs a period above 0 and of at most {_MOST} s")
    return int(match["requests"]), seconds


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = attrs.fields_dict(Settings)
    values: dict[str, Any] = {}
    if environ.get("GATEWAY_API_KEY"):
        values["api_key"] = environ["GATEWAY_API_KEY"]
    for name, field in known.items():
        text = environ.get(PREFIX + name.upper())
        if text:
            values[name] = text.split() if field.name in LISTS else text
    return values


def _evolve(settings: Settings, values: Mapping[str, object], source: str) -> Settings:
    known = attrs.fields_dict(Settings)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{source}: unknown setting `{unknown[0]}`; known are: {', '.join(known)}")
    merged = {**attrs.asdict(settings), **values}
    for name in LISTS:
        if isinstance(merged[name], str):
            merged[name] = [merged[name]]
    try:
        # Lax: variables and flags are text, and "5" is a good number there.
        evolved = msgspec.convert(merged, Settings, strict=False)
        _check(evolved)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise ConfigError(f"{source}: `{where.rstrip('`')}`: {text}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error.message}") from None
    return evolved


def _check(settings: Settings) -> None:
    """What types do not say. Raises `ConfigError` that names the setting."""
    if not settings.model or not all(settings.model):
        raise ConfigError("`model` is empty: name at least one")
    if settings.api_key == "":
        raise ConfigError("`api_key` is empty: leave it out to ask for none")
    if settings.keys == "":
        raise ConfigError("`keys` is empty: leave it out to have none")
    for origin in settings.allowed_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ConfigError(f"`allowed_origins` takes origins, as in https://app.example.com, or *, not {origin!r}")
    parse_rate(settings.rate_limit)
    for name in ("name", "namespace"):
        if (value := getattr(settings, name)) is not None and not _NAME.fullmatch(value):
            raise ConfigError(f"`{name}` must be 1 to 64 letters, digits, dots, dashes or underscores, not {value!r}")
    for name, choices in _CHOICES.items():
        if (value := getattr(settings, name)) not in choices:
            raise ConfigError(f"`{name}` must be one of {', '.join(choices)}, not {value!r}")
