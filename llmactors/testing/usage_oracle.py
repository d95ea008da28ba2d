"""What Redis says of usage, in four ways that must agree: logs, usage records, their sums, and what limits are charged.

Redis is read with redis-py instead of the code under test.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec
import redis

from llmactors.redislink.names import LedgerKey, RedisNames

_decode = msgspec.msgpack.Decoder().decode
_ID, _CODE, _PROMPT, _COMPLETION, _CACHED = 0, 5, 7, 8, 9
"""Where a record in Redis has the id of its request, the code of its end, and the numbers of tokens."""
_SUMS = (0, 2, 3, 4)
"""Where a sum in Redis has the number of requests and the numbers of tokens."""


@attrs.frozen
class TokensUsed:
    """How many requests have used how many tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def tokens(self) -> int:
        """The tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "TokensUsed") -> "TokensUsed":
        return TokensUsed(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@attrs.frozen
class UsageSeen:
    """What Redis says of usage at one moment at which no request is open."""

    records: tuple[tuple[str, TokensUsed], ...]
    """The id of the request of each record, and what the record says. An id that comes twice is a wrong record."""
    sums: Mapping[str, TokensUsed]
    """All sums of hours together, and all sums of days, by `hour` and `day`."""
    logged: Mapping[str, int]
    """The number of tokens in the log of each request that has ended, and whose log is still kept."""
    codes: Mapping[str, int]
    """How many records have each code."""
    charged: int
    """All tokens that limits per day are charged; 0 where no tenant has such a limit."""

    @property
    def recorded(self) -> TokensUsed:
        """All records together."""
        return sum((used for _, used in self.records), TokensUsed())

    def differences(self, logged: Mapping[str, int] | None = None, *, is_charged: bool = False) -> list[str]:
        """A sentence for each number that differs from another. Empty if all agree.

        Args:
            logged: The number of tokens in logs that clients have read; None for the logs that are still kept, of
                which each record must have one.
            is_charged: Whether all requests came from tenants with a limit per day, in the same day of UTC.
        """
        found = []
        times = Counter(request_id for request_id, _ in self.records)
        known = dict(self.records)
        found += [f"{request_id} has {count} records" for request_id, count in times.items() if count > 1]
        for request_id, tokens in (self.logged if logged is None else logged).items():
            if request_id not in known:
                found.append(f"{request_id} has no record")
            elif known[request_id].completion_tokens != tokens:
                found.append(f"{request_id} has {tokens} tokens in its log, and {known[request_id]} in its record")
        if logged is None:
            found += [f"{request_id} has a record and no log" for request_id in known if request_id not in self.logged]
        total = self.recorded
        for span, used in self.sums.items():
            if used != total:
                found.append(f"the sums by {span} are {used}, and those of the records {total}")
        if is_charged and self.charged != total.tokens:
            found.append(f"limits are charged {self.charged} tokens, and records have {total.tokens}")
        return found

    def __str__(self) -> str:
        total = self.recorded
        return (
            f"{total.requests:,} records of {len(self.logged):,} ended requests; completion tokens: "
            f"{sum(self.logged.values()):,} in logs, {total.completion_tokens:,} in records; tokens: "
            f"{total.tokens:,} in records, "
            + "".join(f"{used.tokens:,} in sums by {span}, " for span, used in self.sums.items())
            + f"{self.charged:,} charged"
        )


def usage_of_all(seen: Iterable[UsageSeen]) -> UsageSeen:
    """What several servers say together, of which each has requests of its own."""
    each = list(seen)
    sums: dict[str, TokensUsed] = {}
    codes: Counter[str] = Counter()
    for one in each:
        sums.update({span: sums.get(span, TokensUsed()) + used for span, used in one.sums.items()})
        codes.update(one.codes)
    records = tuple(record for one in each for record in one.records)
    logged = {request_id: tokens for one in each for request_id, tokens in one.logged.items()}
    return UsageSeen(records, sums, logged, codes, sum(one.charged for one in each))


def usage_seen(client: "redis.Redis", names: RedisNames) -> UsageSeen:
    """Reads all that Redis says of usage. No request may be open."""
    entries: Any = client.xrange(names.ledger(LedgerKey.USAGE_RECORDS))
    records = tuple(_record(fields[b"u"]) for _, fields in entries)
    sums = {span: _sums_of(client, names.ledger(LedgerKey.USAGE_SUMS, span, "*")) for span in ("hour", "day")}
    limits = client.scan_iter(names.ledger(LedgerKey.LIMIT, "tokens-per-day:*"), count=1000)
    used: list[Any] = [client.hget(name, "used") for name in limits]
    charged = sum(int(each or 0) for each in used)
    codes = Counter(_decode(fields[b"u"])[_CODE] for _, fields in entries)
    return UsageSeen(records, sums, dict(_logs(client, names)), codes, charged)


def _record(packed: bytes) -> tuple[str, TokensUsed]:
    fields = _decode(packed)
    return fields[_ID], TokensUsed(1, fields[_PROMPT], fields[_COMPLETION], fields[_CACHED])


def _sums_of(client: "redis.Redis", pattern: str) -> TokensUsed:
    total = TokensUsed()
    for name in client.scan_iter(pattern, count=1000):
        packed: Any = client.hvals(name)
        for counts in map(_decode, packed):
            total += TokensUsed(*(counts[place] for place in _SUMS))
    return total


def _logs(client: "redis.Redis", names: RedisNames) -> Iterable[tuple[str, int]]:
    prefix = names.ledger(LedgerKey.LOG, "")
    for name in client.scan_iter(f"{prefix}*", count=1000):
        entries: Any = client.xrange(name)
        if entries and b"e" in entries[-1][1]:
            tokens = sum(len(_decode(fields[b"t"])) for _, fields in entries if b"t" in fields)
            yield name.decode().removeprefix(prefix), tokens
