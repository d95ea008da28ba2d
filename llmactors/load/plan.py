"""What a load consists of, and the bounds on it. Pure."""

import enum
from typing import Any

import attrs

from llmactors.errors import ConfigError
from llmactors.load.target import Target

MAX_CLIENTS = 10_000
MAX_REQUESTS = 1_000_000
MAX_TOKENS = 1_000_000
MAX_RATE = 100_000.0
MAX_LIMIT_S = 24 * 3600.0


class Api(enum.Enum):
    """Which routes a server is asked on."""

    NATIVE = "native"
    """`POST /v1/generate`, as server-sent events."""
    NATIVE_JSON = "native-json"
    """The same, as one JSON object."""
    WS = "ws"
    """`GET /v1/ws`: one socket per client, one request at a time on it."""
    CHAT = "chat"
    """OpenAI's `POST /v1/chat/completions`."""
    COMPLETIONS = "completions"
    """OpenAI's `POST /v1/completions`."""


class Check(enum.Enum):
    """How closely answers are looked at."""

    SHAPE = "shape"
    """Whole, in order, with an end that fits."""
    MOCK = "mock"
    """And each token must be the one that the simulated backend makes of this prompt and seed."""


@attrs.frozen(kw_only=True)
class Plan:
    """What to send. Raises `ConfigError` for what is out of bounds."""

    target: Target
    api: Api = Api.NATIVE
    stream: bool = True
    """False: whole answers from OpenAI's routes. The native ones say it by their name."""
    model: str | None = None
    key: str | None = attrs.field(default=None, repr=False)
    check: Check = Check.SHAPE
    clients: int = 60
    """At most so many requests at a time. In an open loop: so many connections."""
    requests: int = 600
    max_tokens: int = 64
    prompt: str = "load"
    """What all prompts begin with; a number follows."""
    rate: float | None = None
    """None: a closed loop, in which each client's next request follows its last answer. Else an open loop: so many
    requests a second arrive, whatever becomes of those before, and are timed from when they should have begun."""
    seed: int = 1
    """Of the arrivals."""
    ramp_s: float = 0.0
    """In a closed loop clients begin one by one over this time."""
    seconds: float | None = None
    """No new requests after this; those under way may end."""
    limit_s: float = 60.0
    """The run is broken off after this."""
    stall_s: float = 20.0
    """A request that receives nothing for this long has failed."""
    keep_alive: bool = True
    """False: a connection for each request."""

    def __attrs_post_init__(self) -> None:
        _within("clients", self.clients, 1, MAX_CLIENTS)
        _within("requests", self.requests, 1, MAX_REQUESTS)
        _within("max-tokens", self.max_tokens, 1, MAX_TOKENS)
        _within("limit-s", self.limit_s, 0.001, MAX_LIMIT_S)
        _within("stall-s", self.stall_s, 0.001, MAX_LIMIT_S)
        _within("ramp-s", self.ramp_s, 0, MAX_LIMIT_S)
        if self.rate is not None:
            _within("rate", self.rate, 1e-6, MAX_RATE)
        if self.seconds is not None:
            _within("seconds", self.seconds, 0.001, MAX_LIMIT_S)
        if self.rate is not None and self.ramp_s:
            raise ConfigError("`ramp-s` is for a closed loop; an open one has --rate")
        if not self.prompt.strip():
            raise ConfigError("`prompt` is empty")

    @property
    def streams(self) -> bool:
        """Whether answers come token by token."""
        return self.stream and self.api is not Api.NATIVE_JSON

    def prompt_of(self, index: int) -> str:
        """The prompt of the `index`-th request; its seed is `index`."""
        return f"{self.prompt} {index}"

    def described(self) -> dict[str, Any]:
        """For the report. Without the key."""
        kept = attrs.asdict(self, filter=lambda field, _: field.name not in {"target", "key", "api", "check"})
        return {
            "url": self.target.url,
            "host": self.target.host,
            "port": self.target.port,
            "api": self.api.value,
            "check": self.check.value,
            "oracle": self.check is Check.MOCK,
            **kept,
        }


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"`{name}` must be from {low:g} to {high:,.0f}, not {value:g}")
