"""What operators see of a ledger: frozen values. None of them has a prompt, or a token of an answer."""

import heapq
import operator
from collections.abc import Iterable

import attrs

from llmactors.ledger.values import ClaimNote
from llmactors.messages import Terminal

_OLDEST_S = operator.attrgetter("oldest_s")
OPEN_REQUESTS_SHOWN = 500
"""The most requests, or rows of the queue, in one answer to an operator."""
OPEN_REQUESTS_SEEN = 10_000
"""The most requests that have not ended which one answer to an operator looks at. A look at all of many more would hold
the event loop, or Redis, for too long."""


@attrs.frozen
class RequestFilter:
    """Which of the requests that have not ended an operator wants to see. None: whatever the value is."""

    state: str | None = None
    """`queued` or `running`."""
    tenant: str | None = None
    model: str | None = None

    def takes(self, state: str, tenant: str, model: str) -> bool:
        """Whether the operator wants to see a request with these values."""
        wanted = (self.state, state), (self.tenant, tenant), (self.model, model)
        return all(value is None or value == found for value, found in wanted)


@attrs.frozen(kw_only=True)
class RequestView:
    """A request as operators see it: without its prompt and its tokens."""

    id: str
    tenant: str
    model: str
    priority: int
    state: str
    """`queued`, `running` or `ended`."""
    age_s: float
    """How long ago the ledger admitted the request, in seconds."""
    tokens: int
    """How many tokens the log has."""
    attempt: int
    epoch: int
    worker: str | None
    """The worker that runs the request; None while no worker does."""
    takeovers: int
    """How often another claim followed the first one."""
    key_id: str = ""
    """The id of the API key that sent the request; empty for a request without a key of a store."""


@attrs.frozen
class RequestViews:
    """Some of the requests that have not ended, the oldest ones first."""

    shown: tuple[RequestView, ...]
    total: int
    """How many of the requests that the ledger looked at are wanted."""


@attrs.frozen(kw_only=True)
class RequestTimes:
    """One request as operators see it, with the times of its life in milliseconds since 1970."""

    view: RequestView
    admitted_ms: int
    first_token_ms: int | None = None
    ended_ms: int | None = None
    end: Terminal | None = None
    claims: tuple[ClaimNote, ...] = ()
    """The newest claims, oldest first."""


QUEUE_SHARES_SEEN = 2 * OPEN_REQUESTS_SHOWN
"""The most rows of the queue among which those with the oldest waits are shown."""


@attrs.frozen(order=True)
class QueueShare:
    """What one tenant has waiting for one model in one priority class."""

    model: str
    priority: int
    tenant: str
    waiting: int
    cost: float
    """The tokens that the requests may take and make. Those of each request are divided by its weight."""
    oldest_s: float
    """How long the request that was queued first has waited since, in seconds."""

    @property
    def key(self) -> tuple[str, int, str]:
        """Which share of the queue the row is about."""
        return self.model, self.priority, self.tenant


def oldest_first(shares: Iterable[QueueShare]) -> list[QueueShare]:
    """At most `OPEN_REQUESTS_SHOWN` of the shares, the oldest wait first."""
    return heapq.nlargest(OPEN_REQUESTS_SHOWN, shares, key=_OLDEST_S)
