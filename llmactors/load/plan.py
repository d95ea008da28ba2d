"""The plan of a load: its requests, and the bounds on them. Pure."""

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
    """The routes that requests go to."""

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
    """How closely answers are checked."""

    SHAPE = "shape"
    """An answer must be complete and in order, and its end must fit its tokens."""
    MOCK = "mock"
    """As `SHAPE`, and each token must be what the simulated backend makes of the prompt and the seed."""


@attrs.frozen(kw_only=True)
class Plan:
    """The requests to send. Raises `ConfigError` for a value that is out of bounds."""

    target: Target
    api: Api = Api.NATIVE
    stream: bool = True
    """False: OpenAI's routes are asked for whole answers. The native routes have an `Api` of their own for that."""
    model: str | None = None
    key: str | None = attrs.field(default=None, repr=False)
    check: Check = Check.SHAPE
    clients: int = 60
    """How many requests run at once; in an open loop: how many connections there may be."""
    requests: int = 600
    max_tokens: int = 64
    prompt: str = "load"
    """The beginning of all prompts; a number follows."""
    rate: float | None = None
    """None: a closed loop, in which each client's next request follows its last answer. Otherwise an open loop: this
    many requests arrive per second, whether or not earlier ones have ended, and each is timed from when it should have
    begun."""
    seed: int = 1
    """The seed of the arrivals of an open loop."""
    ramp_s: float = 0.0
    """The time over which the clients of a closed loop begin one by one."""
    seconds: float | None = None
    """The time after which no request begins; requests under way may end."""
    limit_s: float = 60.0
    """The time after which the run is broken off."""
    stall_s: float = 20.0
    """The silence after which a request has failed."""
    keep_alive: bool = True
    """False: each request has a connection of its own."""

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
        """The plan as the report shows it, without the key."""
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
