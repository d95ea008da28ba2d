"""What ended requests have used, as a ledger tells its operators: frozen values. Times are milliseconds since 1970."""

import enum

import attrs
import msgspec

from llmactors.errors import InvalidRequest

RECORDS_MAX = 1000
"""The most records of one page."""
OTHERS = "*"
"""Stands for the tenant, the key and the model of a sum once one hour or day has more sums than `usage_sums_max`."""


class UsageRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one ended request has used. The ledger writes the record in the step that ends the request."""

    ended_ms: int
    request_id: str
    tenant: str
    key_id: str
    """The id of the API key; empty for no key of a store."""
    model: str
    priority: int
    """The priority class."""
    code: str
    """The finish reason of an answer, or the code of the error that ended the request."""
    attempts: int
    """How many attempts count, the last one included."""
    prompt_tokens: int
    """An estimate, where a request ended before its backend said the number."""
    completion_tokens: int
    cached_tokens: int
    """How many of the prompt's tokens came from a cache, in the attempt that ended the request."""
    queue_ms: int
    """How long the request waited for workers, over all attempts."""
    run_ms: int
    """How long workers held the request, over all attempts."""
    cost_nano: int
    """In billionths of the currency's unit, by the price at the admission; 0 where the model had no price."""


def not_a_cursor(after: str) -> InvalidRequest:
    """The error of a page that begins behind what is no cursor."""
    return InvalidRequest(f"`after` must be the `next` of the page before, not {after[:40]!r}")


@attrs.frozen
class UsagePage:
    """Some usage records, the oldest first."""

    records: tuple[UsageRecord, ...]
    next: str
    """The cursor of the next page; empty where there is no next page."""


class UsageBy(enum.Enum):
    """What usage is added up by."""

    TENANT = "tenant"
    KEY = "key"
    """By tenant and API key."""
    MODEL = "model"
    HOUR = "hour"
    DAY = "day"
    """By day of UTC."""


class UsageTotal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What some ended requests have used together."""

    requests: int = 0
    failed: int = 0
    """How many of the requests ended with an error."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_ms: int = 0
    run_ms: int = 0
    cost_nano: int = 0

    def __add__(self, other: "UsageTotal") -> "UsageTotal":
        return UsageTotal(
            self.requests + other.requests,
            self.failed + other.failed,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.queue_ms + other.queue_ms,
            self.run_ms + other.run_ms,
            self.cost_nano + other.cost_nano,
        )


@attrs.frozen(kw_only=True)
class UsageSum:
    """One row of sums. The fields that the sums are not made by are empty."""

    tenant: str = ""
    key_id: str = ""
    model: str = ""
    start_ms: int | None = None
    """When the hour or the day begins."""
    counts: UsageTotal


@attrs.frozen
class UsageReport:
    """Sums over a span of time, which is widened to whole hours, and to whole days where hours are no longer kept."""

    since_ms: int
    until_ms: int
    """The first moment that is not counted."""
    sums: tuple[UsageSum, ...]

    @property
    def total(self) -> UsageTotal:
        """All sums together."""
        total = UsageTotal()
        for each in self.sums:
            total += each.counts
        return total
