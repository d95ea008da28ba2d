"""Every name that this project uses in Redis: keys, channels and function libraries. No other file builds one.

All names of one namespace hold the same hash tag, as in `llmactors:{main}:v4:request:ID`, so a Redis Cluster keeps
them in one slot. The Lua functions of the ledger build their keys with `lua_key_functions`, made from `LedgerKey`.
"""

import enum
import hashlib

import attrs

LEDGER_FORMAT = 4
"""The format of what the ledger stores, and part of its keys' names. Nodes of two formats use two ledgers in one
Redis, so the older nodes can finish what they accepted. Raise the format with a change that older nodes would
misread."""

_LIBRARY_PLACE = "@LIBRARY@"


@attrs.frozen
class KeyKind:
    """One kind of key or channel of the ledger."""

    name: str
    type: str
    """The Redis type, or `channel`."""
    holds: str
    parts: tuple[str, ...] = ()
    """What follows the name, separated by colons. The last part may hold colons itself."""


class LedgerKey(enum.Enum):
    """All keys and channels of the ledger. A member's value says what Redis keeps under such a key."""

    REQUEST = KeyKind("request", "hash", "the state of one request", ("id",))
    BODY = KeyKind("body", "string", "the request as it was submitted", ("id",))
    LOG = KeyKind("log", "stream", "entry SEQ-0: the tokens up to SEQ, or the terminal event", ("id",))
    GONE = KeyKind(
        "gone", "string", "the tombstone of a request: until when it counts, and a digest of its body", ("id",)
    )
    COUNTERS = KeyKind("counters", "hash", "counts over all requests, and when the ledger was last used")
    DEADLINES = KeyKind("deadlines", "zset", "request -> its deadline, in ms")
    OPEN = KeyKind("open", "zset", "request that has not ended -> order of arrival")
    UNREAD = KeyKind("unread", "zset", "request -> when its grace without a reader ends, in ms")
    ENDED = KeyKind("ended", "zset", "request -> when its log is deleted, in ms")
    ENDED_OF = KeyKind(
        "ended_of", "zset", "request -> when it ended, or was last read after that, in ms, of one tenant", ("tenant",)
    )
    ENDED_LOGS = KeyKind("ended_logs", "zset", "tenant -> how many of its logs are kept")
    ENDED_TOKENS = KeyKind("ended_tokens", "zset", "tenant -> how many tokens these logs count as")
    USAGE_RECORDS = KeyKind("usage_records", "stream", "entry MS-N: what a request has used that ended at this ms")
    USAGE_SUMS = KeyKind(
        "usage_sums", "hash", "tenant, key and model -> what they have used in an hour or a day", ("span", "start")
    )
    DEAD_LETTERS = KeyKind("dead_letters", "stream", "the newest requests that were given up")

    WORKERS = KeyKind("workers", "zset", "worker -> when its lease ends, in ms")
    DEAD_WORKERS = KeyKind("dead_workers", "zset", "worker -> when it lost its lease, in ms")
    LOST = KeyKind("lost", "hash", "silent worker -> the requests that it held, of one worker's name", ("name",))
    WORKER = KeyKind("worker", "hash", "a worker's channel, reservation, last claim and room", ("worker",))
    HELD = KeyKind("held", "zset", "request -> the order of its claim, of one worker", ("worker",))
    LIVE = KeyKind("live", "hash", "request -> `EPOCH LENGTH CHANNELS`, of what one worker runs", ("worker",))
    STOPS = KeyKind("stops", "zset", "`ID EPOCH` -> until when the worker is told to stop it, in ms", ("worker",))
    GATEWAYS = KeyKind("gateways", "zset", "channel of a gateway -> when its lease ends, in ms")

    CLASSES = KeyKind("classes", "hash", "priority class -> times it was passed over, of one model", ("model",))
    WAITING = KeyKind(
        "waiting", "zset", "request -> order of arrival, of one flow", ("class", "length", "model", "tenant")
    )
    """`length` is that of the model's name in bytes, since names of models and tenants may hold colons."""
    HEADS = KeyKind("heads", "zset", "`SERIAL TENANT` of a flow's first request -> start tag", ("model", "class"))
    TAGS = KeyKind("tags", "hash", "the virtual time, and the finish tag of each tenant", ("model", "class"))
    CONVERSATIONS = KeyKind(
        "conversations",
        "hash",
        "conversation -> the worker that had it last, of one model and period",
        ("period", "model"),
    )
    OFFERS = KeyKind("offers", "zset", "worker -> how many of its slots requests may be handed to", ("model",))
    CLAIMERS = KeyKind("claimers", "zset", "worker -> when it last looked at the queues of a model, in ms", ("model",))
    CLAIM_RATE = KeyKind("claim_rate", "hash", "how fast requests for one model are claimed", ("model",))
    LIMIT = KeyKind("limit", "hash, or zset for permits", "what a caller has used of one limit", ("limit",))

    INBOX = KeyKind("inbox", "channel", "pushes to one process", ("process",))
    WAKE = KeyKind("wake", "channel", "the model for which there is something to claim")


@attrs.frozen
class RedisNames:
    """The names of one namespace. With `*` for the namespace or a part, a method returns a pattern."""

    namespace: str

    @property
    def prefix(self) -> str:
        """What all names of the namespace begin with."""
        return f"llmactors:{{{self.namespace}}}:"

    # Nodes, API keys and tickets.

    @property
    def nodes(self) -> str:
        """A zset: the name of each running node -> when its record ends, in ms."""
        return f"{self.prefix}nodes"

    @property
    def known_models(self) -> str:
        """A hash: each model that a worker has declared -> when the worker last said so, and what the model can do."""
        return f"{self.prefix}models"

    @property
    def served_models(self) -> str:
        """A string: the models for which gateways accept requests, for a gateway that starts."""
        return f"{self.prefix}served"

    @property
    def shard(self) -> str:
        """A string: which shard of how many this is, as in `0/3`. Missing for a ledger without shards."""
        return f"{self.prefix}shard"

    def loading(self, model: str) -> str:
        """A string: the node that is about to load a model."""
        return f"{self.prefix}loading:{model}"

    def node(self, name: str) -> str:
        """A hash: the record and the supervision tree of one node."""
        return f"{self.prefix}node:{name}"

    def cordon(self, node: str) -> str:
        """A string, and a channel that announces its changes: the cordon of one node. Without a time to live, unless
        the cordon has an end.
        """
        return f"{self.prefix}cordon:{node}"

    @property
    def api_keys(self) -> str:
        """A hash: the id of each API key -> its record."""
        return f"{self.prefix}keys"

    @property
    def api_keys_changed(self) -> str:
        """A channel: a change of any API key."""
        return f"{self.prefix}keys:changed"

    def ticket(self, digest: str) -> str:
        """A string: the credential that a ticket stands for. `digest` is the ticket's."""
        return f"{self.prefix}ticket:{digest}"

    def stream_ticket(self, digest: str) -> str:
        """A string: the stream or the handshake that a used ticket belongs to, and its credential."""
        return f"{self.prefix}ticket:{digest}:stream"

    def session(self, digest: str) -> str:
        """A string: the credential of the operator who began a session. `digest` is that of the session's token."""
        return f"{self.prefix}session:{digest}"

    # The ledger.

    @property
    def ledger_prefix(self) -> str:
        """What all names of the ledger begin with."""
        return f"{self.prefix}v{LEDGER_FORMAT}:"

    def ledger(self, key: LedgerKey, *parts: str | int) -> str:
        """The name of one key or channel of the ledger.

        Raises:
            ValueError: `parts` are not those of `key`.
        """
        if len(parts) != len(key.value.parts):
            raise ValueError(f"a key of kind {key.value.name} needs the parts {key.value.parts}, not {parts}")
        return self.ledger_prefix + ":".join((key.value.name, *map(str, parts)))


def lua_key_functions() -> str:
    """Lua text that defines `key.KIND(c, …parts)` for each `LedgerKey`; `c.prefix` is the ledger's prefix."""
    lines = ["local key = {}"]
    for kind in (key.value for key in LedgerKey):
        joined = " .. ':' .. ".join(kind.parts)
        name = f"'{kind.name}:' .. {joined}" if kind.parts else f"'{kind.name}'"
        lines.append(f"function key.{kind.name}({', '.join(('c', *kind.parts))}) return c.prefix .. {name} end")
    return "\n".join(lines)


@attrs.frozen
class FunctionLibrary:
    """A library of Redis functions. Its name holds a digest of its text, so no node calls another version's."""

    name: str
    text: str
    """As `FUNCTION LOAD` takes it."""

    @classmethod
    def of(cls, lua: str) -> "FunctionLibrary":
        """The library with this Lua text, in which `@LIBRARY@` stands for the library's name."""
        name = f"llmactors_{hashlib.sha256(lua.encode()).hexdigest()[:8]}"
        return cls(name, f"#!lua name={name}\n" + lua.replace(_LIBRARY_PLACE, name))

    def function(self, operation: str) -> str:
        """The name of the function for one operation."""
        return f"{self.name}_{operation}"
