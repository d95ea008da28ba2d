"""All settings of a node, each declared once."""

from typing import Literal

import attrs

from llmactors.config.checks import check_hosts, check_models, check_origins, check_proxies
from llmactors.config.declaration import (
    Bytes,
    Count,
    CountOrZero,
    FilledText,
    ImageBytes,
    NodeName,
    PositiveSeconds,
    Seconds,
    Tokens,
    setting,
)
from llmactors.config.declared_models import DeclaredModel
from llmactors.config.declared_prices import DeclaredPrice
from llmactors.config.masks import mask_model, mask_url
from llmactors.config.rates import parse_rate
from llmactors.config.setting import settings_of
from llmactors.config.sizes import check_memory

KEYS_IN_REDIS = "redis"
"""The value of `keys` that stands for the keys of the cluster."""

# Which commands take a setting as a flag: those in which the setting has an effect.
EVERY_NODE = frozenset({"serve", "gateway", "worker", "up"})
WITH_GATEWAY = frozenset({"serve", "gateway", "up"})
WITH_MODELS = frozenset({"serve", "worker", "up"})
IN_CLUSTER = frozenset({"gateway", "worker", "up"})
WITH_REDIS = IN_CLUSTER | {"keys", "queue", "usage", "drain", "uncordon", "reload", "forget", "tree", "top"}
NO_COMMAND: frozenset[str] = frozenset()

# The headings under which help and handbook show them.
MODELS = "Models"
ADDRESSES = "Addresses"
CALLERS = "Callers"
LIMITS = "Limits"
STREAMS = "Streams"
CLUSTER = "Cluster"
LOGS = "Logs"
USAGE = "Usage"


@attrs.frozen(kw_only=True)
class Settings:
    """All settings of one node. Times are in seconds.

    A field's name is the key of a configuration file. The variable of `drain_s` is `LLMACTORS_DRAIN_S`, and the flag is
    `--drain-s`.
    """

    model: tuple[str, ...] = setting(
        ("smollm2-135m",),
        "A model to serve: NAME, PATH.gguf, hf:OWNER/REPO/FILE, openai:URL,model=NAME, MODULE:NAME, mock or "
        "mock:OPTIONS. ALIAS=MODEL gives a model another name. Several are allowed; a request that names none gets the "
        "first.",
        group=MODELS,
        commands=WITH_MODELS,
        placeholder="MODEL",
        mask=mask_model,
        check=check_models,
    )
    slots: Count | None = setting(
        None,
        "How many sequences a model decodes at once. Each backend has its own default.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    context: Tokens | None = setting(
        None,
        "The longest sequence, prompt and answer together. Each backend has its own default.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    threads: Count | None = setting(
        None,
        "How many threads a model computes with. By default, as many as the process has cores.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    models: dict[str, DeclaredModel] = setting(
        {},
        "Models that are loaded when requests wait for them, and unloaded when others need their memory: a table "
        "[models.NAME] for each. Gateways accept requests for these models also while no worker runs.",
        group=MODELS,
        commands=NO_COMMAND,
        mask=mask_model,
    )
    model_memory: str | None = setting(
        None,
        "The memory that all models of a worker may take together, as in 12GiB. Models of the setting `models` get "
        "what models of `--model` leave. By default, 80 % of the memory that the process may use.",
        group=MODELS,
        commands=WITH_MODELS,
        placeholder="SIZE",
        check=check_memory,
    )
    model_turn_s: Seconds = setting(
        5.0,
        "A model that was loaded for waiting requests stays in memory at least for this long while it has work.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    model_patience_s: Seconds = setting(
        30.0,
        "A request that waits longer than this for a model that is not in memory ends the turn of a model that still "
        "has work.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    batch_window_s: Seconds = setting(
        0.02,
        "How long the first request of a static batch waits for others.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    stalled_s: PositiveSeconds = setting(
        5.0,
        "A backend that has work and produces nothing for this long makes its node not ready.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    hung_s: PositiveSeconds = setting(
        60.0,
        "A backend that has work and produces nothing for this long is restarted.",
        group=MODELS,
        commands=WITH_MODELS,
    )
    bind: str = setting(
        "127.0.0.1:8000",
        "The address that HTTP and WebSocket clients connect to. The command `up` gives each further gateway the next "
        "port.",
        group=ADDRESSES,
        commands=WITH_GATEWAY,
        placeholder="HOST:PORT",
        inherited=False,
    )
    metrics_bind: str = setting(
        "127.0.0.1:9100",
        "The address of a worker's /livez, /readyz, /metrics and /v1/tree. An empty text: the worker has none.",
        group=ADDRESSES,
        commands=frozenset({"worker", "up"}),
        placeholder="HOST:PORT",
        inherited=False,
    )
    api_key: FilledText | None = setting(
        None,
        "The one key that every caller must show, beside the keys of `keys`. The variable "
        "GATEWAY_API_KEY gives the key too. There is no flag, which would show the key to everybody on the machine.",
        group=CALLERS,
        commands=NO_COMMAND,
        secret=True,
        other_variable="GATEWAY_API_KEY",
    )
    keys: FilledText | None = setting(
        None,
        "Where the API keys are: `redis` for those of the cluster, or the path of a key file. By default no key is "
        "asked for. A store that holds no key lets nobody in.",
        group=CALLERS,
        commands=WITH_GATEWAY | {"keys"},
        placeholder="PATH",
    )
    max_auth_failures: CountOrZero = setting(
        20,
        "How many wrong keys one address may show in a minute, at each gateway. 0: any number.",
        group=CALLERS,
        commands=WITH_GATEWAY,
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        "Web pages of these origins may use this node, as in https://app.example.com, besides its own pages. `null`: "
        "pages without an origin, such as files. `*`: all pages.",
        group=CALLERS,
        commands=WITH_GATEWAY,
        placeholder="ORIGIN",
        check=check_origins,
        reloadable=True,
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "A node that asks for no keys also answers to these host names, as in llm.example.com or llm.example.com:8000, "
        "besides IP addresses, localhost and the name of its machine. `*`: all names.",
        group=CALLERS,
        commands=EVERY_NODE,
        placeholder="HOST",
        check=check_hosts,
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Proxies whose X-Forwarded-For, Forwarded and X-Forwarded-Host are believed: addresses or networks, as in "
        "127.0.0.1 or 10.0.0.0/8.",
        group=CALLERS,
        commands=WITH_GATEWAY,
        placeholder="NETWORK",
        check=check_proxies,
    )
    drills: bool = setting(
        False,
        "Whether operators may break parts of the node on purpose, to see that streams go on.",
        group=CALLERS,
        commands=EVERY_NODE,
    )
    rate_limit: str | None = setting(
        None,
        "How many requests each caller may send, as in 60/min, 5/s or 100/10s, over all gateways of a cluster "
        "together. Give all gateways the same limit. By default there is no limit.",
        group=LIMITS,
        commands=WITH_GATEWAY,
        placeholder="COUNT/PERIOD",
        check=parse_rate,
        reloadable=True,
    )
    rate_algorithm: Literal["gcra", "fixed_window"] = setting(
        "gcra",
        "How requests are counted for `rate_limit`: gcra spreads them evenly, fixed_window counts anew in each period.",
        group=LIMITS,
        commands=WITH_GATEWAY,
        reloadable=True,
    )
    max_queued: Count = setting(
        1024,
        "How many requests may wait. Further ones are refused with the error OVERLOADED.",
        group=LIMITS,
        commands=WITH_GATEWAY,
    )
    max_body_bytes: Bytes = setting(
        1024 * 1024,
        "The largest request body, and the largest WebSocket message.",
        group=LIMITS,
        commands=WITH_GATEWAY,
    )
    max_image_body_bytes: ImageBytes = setting(
        8 * 1024 * 1024,
        "The largest request body with images, from callers that may use a model that takes images. Without its "
        "images, such a body is bounded by `max_body_bytes` too.",
        group=LIMITS,
        commands=WITH_GATEWAY,
    )
    prices: dict[str, DeclaredPrice] = setting(
        {},
        "What the tokens of models cost, for usage and budgets: a table [prices.NAME] for each, with the prices "
        "`prompt`, `completion` and `cached` for a million tokens. A model without a price costs nothing. Give all "
        "gateways the same prices.",
        group=USAGE,
        commands=NO_COMMAND,
        reloadable=True,
    )
    usage_records_max: CountOrZero = setting(
        50_000,
        "How many usage records are kept, one of each ended request. Sums of all records are kept for longer. Give all "
        "nodes the same number.",
        group=USAGE,
        commands=EVERY_NODE,
    )
    usage_records_s: Seconds = setting(
        604_800.0,
        "How long a usage record is kept.",
        group=USAGE,
        commands=EVERY_NODE,
    )
    usage_sums_max: Count = setting(
        1000,
        "In each hour and each day, how many combinations of tenant, key and model have sums of their own. Further "
        "ones are added up as `*`.",
        group=USAGE,
        commands=EVERY_NODE,
    )
    usage_hours_s: Seconds = setting(
        691_200.0,
        "How long the sums of an hour are kept.",
        group=USAGE,
        commands=EVERY_NODE | {"usage"},
    )
    usage_days_s: Seconds = setting(
        34_560_000.0,
        "How long the sums of a day are kept.",
        group=USAGE,
        commands=EVERY_NODE | {"usage"},
    )
    drain_s: Seconds = setting(
        20.0,
        "How long a shutdown waits for open streams.",
        group=STREAMS,
        commands=EVERY_NODE,
    )
    resume_grace_s: Seconds = setting(
        10.0,
        "A stream without a reader is cancelled after this time.",
        group=STREAMS,
        commands=WITH_GATEWAY,
    )
    background_s: Seconds = setting(
        3600.0,
        "A background response without a reader is cancelled after this time.",
        group=STREAMS,
        commands=WITH_GATEWAY,
    )
    response_ttl_s: Seconds = setting(
        3600.0,
        "How long a stored response can be retrieved and continued after its end.",
        group=STREAMS,
        commands=WITH_GATEWAY,
    )
    retention_s: Seconds = setting(
        60.0,
        "How long the answer of an ended request can be read again.",
        group=STREAMS,
        commands=EVERY_NODE,
    )
    tombstone_s: Seconds = setting(
        600.0,
        "For this long after `retention_s` the id of an ended request, and its idempotency key, are answered with "
        "status 410. Then both are free again.",
        group=STREAMS,
        commands=EVERY_NODE,
    )
    write_s: Seconds = setting(
        20.0,
        "A client that takes no data for this long is disconnected.",
        group=STREAMS,
        commands=WITH_GATEWAY,
    )
    keep_alive_s: PositiveSeconds = setting(
        15.0,
        "A stream that is silent for this long is sent a keep-alive.",
        group=STREAMS,
        commands=WITH_GATEWAY,
    )
    flush_interval_s: Seconds = setting(
        0.01,
        "The shortest time between two writes to one stream.",
        group=STREAMS,
        commands=WITH_GATEWAY,
    )
    redis: str | None = setting(
        None,
        "The Redis server of the cluster: redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://… with TLS, "
        "unix://PATH, sentinel://HOST:PORT,…/SERVICE, or cluster://HOST:PORT,…?shards=N for a Redis Cluster. Several "
        "URLs, with commas between them, are several servers that share the work. A flag shows a "
        "password to everybody on the machine; the variable LLMACTORS_REDIS does not.",
        group=CLUSTER,
        commands=WITH_REDIS,
        placeholder="URL",
        mask=mask_url,
    )
    namespace: NodeName = setting(
        "main",
        "The name of the cluster. Clusters of different names share a Redis server without seeing each other.",
        group=CLUSTER,
        commands=WITH_REDIS,
    )
    name: NodeName | None = setting(
        None,
        "The name of this node in its cluster. By default the name is made of role, host and process id.",
        group=CLUSTER,
        commands=frozenset({"gateway", "worker"}),
        inherited=False,
    )
    keeper: bool = setting(
        True,
        "Whether a process of its own, the keeper, holds the connections of a gateway's clients: the connections "
        "outlive the death of the gateway, and an upgrade. On Linux only.",
        group=CLUSTER,
        commands=frozenset({"gateway", "up"}),
    )
    standby_s: PositiveSeconds = setting(
        60.0,
        "How long a gateway may start, under a keeper, until it can take connections over. A gateway that takes longer "
        "is ended, and an upgrade to it is given up.",
        group=CLUSTER,
        commands=frozenset({"gateway", "up"}),
    )
    frozen_s: Seconds = setting(
        10.0,
        "How long a gateway under a keeper may do nothing until the keeper ends it and another goes on; 0 for ever. "
        "Only time in which the gateway could run counts. With less than 3 s, a long computation ends gateways.",
        group=CLUSTER,
        commands=frozenset({"gateway", "up"}),
    )
    lease_s: PositiveSeconds = setting(
        1.5,
        "A worker that is silent for this long loses its requests to other workers. Give all nodes the same time.",
        group=CLUSTER,
        commands=IN_CLUSTER,
    )
    affinity_wait_s: Seconds = setting(
        0.2,
        "How long other workers leave a request to the worker that served the conversation's last request, and that "
        "has the beginning of the prompt in its cache, as long as that worker has a free slot. 0: no request waits for "
        "a worker. Give all nodes the same time.",
        group=CLUSTER,
        commands=IN_CLUSTER,
    )
    preempt_after_s: Seconds = setting(
        0.0,
        "A request that has waited for this long takes the slot of a running request of a less urgent class. The "
        "running request continues later behind its last token. 0: never. Give all nodes the same time.",
        group=CLUSTER,
        commands=EVERY_NODE,
    )
    quarantine_from_attempt: Count = setting(
        3,
        "From this attempt on a request runs only beside other suspected requests, and in the end alone. If a worker "
        "crashes while the request runs alone, the request fails. Raise the number where machines are often lost for "
        "other reasons.",
        group=CLUSTER,
        commands=EVERY_NODE,
        placeholder="ATTEMPT",
    )
    worker_grace_s: Seconds = setting(
        10.0,
        "How long requests for a model are still accepted after the model's last worker has left.",
        group=CLUSTER,
        commands=frozenset({"gateway", "up"}),
    )
    known_model_s: Seconds = setting(
        172_800.0,
        "How long requests for a model of the setting `models` are still accepted, and wait, after the last worker "
        "with the model has left. A gateway that declares the model itself accepts them for ever.",
        group=CLUSTER,
        commands=frozenset({"gateway", "up"}),
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        "The least important messages that are logged.",
        group=LOGS,
        commands=EVERY_NODE,
        reloadable=True,
    )
    log_format: Literal["auto", "json", "console"] = setting(
        "auto",
        "The form of the log. auto: console where standard error is a terminal, and json elsewhere.",
        group=LOGS,
        commands=EVERY_NODE,
    )
    access_log: bool = setting(
        False,
        "Whether each request is logged.",
        group=LOGS,
        commands=WITH_GATEWAY,
        reloadable=True,
    )
    traces: bool = setting(
        False,
        "Whether the node exports traces of requests by OTLP, to the collector that the variables OTEL_EXPORTER_OTLP_… "
        "name. Needs the extra `otel`.",
        group=LOGS,
        commands=EVERY_NODE,
    )


SETTINGS = settings_of(Settings)
"""All settings by name: what help, configuration files, variables and the handbook are made from."""
