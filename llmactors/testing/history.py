"""What clients saw: every event of every request, with the time it arrived. Pure: no sockets, no clock.

Times are of `time.monotonic`, so they compare with those of the faults in `nemeses`.
"""

import itertools
from collections import Counter
from typing import NamedTuple

import attrs


class TokenSeen(NamedTuple):
    """A token, as it arrived."""

    seq: int
    text: str
    at: float


@attrs.frozen
class EndSeen:
    """A terminal event, as it arrived."""

    name: str
    """`done` or `error`."""
    seq: int
    at: float
    code: str = ""
    """Of an `error`."""
    completion_tokens: int | None = None
    """What a `done` says the answer has."""


@attrs.frozen
class Gap:
    """A silence within one stream: from one event to the next, over however many connections."""

    seconds: float
    begun: float
    request_id: str
    after_seq: int

    @property
    def ended(self) -> float:
        """When the next event arrived."""
        return self.begun + self.seconds

    def spans(self, moment: float) -> bool:
        """Whether `moment` lies in it."""
        return self.begun <= moment <= self.ended


@attrs.define(eq=False)
class RequestHistory:
    """One request, from the moment it was sent."""

    prompt: str
    seed: int
    max_tokens: int
    sent_at: float
    id: str = ""
    accepted_at: float | None = None
    """When the status line with its id arrived; None: it may or may not have been accepted."""
    tokens: list[TokenSeen] = attrs.field(factory=list)
    """In order of arrival, repeats and all."""
    ends: list[EndSeen] = attrs.field(factory=list)
    last_event_id: int = 0
    """Where the client takes it up again."""
    tokens_after_end: int = 0
    foreign: int = 0
    """Events that carry the id of another stream."""
    connections: int = 0
    cuts: Counter[str] = attrs.field(factory=Counter)
    """Why its connections ended early."""
    gone: int = 0
    """The status of the answer that left the client without hope: 404, 410, or 204 before any end."""
    replay: "RequestHistory | None" = None
    """The whole log, read again from its beginning after the end."""

    def __repr__(self) -> str:
        ends = "+".join(end.name for end in self.ends) or "open"
        return f"<RequestHistory {self.id or 'unanswered'} {len(self.tokens)} of {self.max_tokens} tokens, {ends}>"

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.connections - 1)

    def add_token(self, seq: int, text: str, at: float) -> None:
        """Takes in a token event."""
        self.tokens_after_end += bool(self.ends)
        self.tokens.append(TokenSeen(seq, text, at))
        self.last_event_id = seq

    def add_end(self, end: EndSeen) -> None:
        """Takes in a terminal event that stands in the log."""
        self.ends.append(end)
        self.last_event_id = end.seq

    def gaps(self) -> list[Gap]:
        """The times between consecutive events, from the first token to the first end."""
        moments = [(token.at, token.seq) for token in self.tokens]
        moments += [(end.at, end.seq) for end in self.ends[:1]]
        moments.sort()
        return [Gap(after[0] - at, at, self.id, seq) for (at, seq), after in itertools.pairwise(moments)]

    def biggest_gap(self) -> Gap | None:
        """The longest silence; None where there were fewer than two events."""
        return max(self.gaps(), key=lambda gap: gap.seconds, default=None)


@attrs.define(eq=False)
class History:
    """All that the clients of one load saw."""

    requests: list[RequestHistory] = attrs.field(factory=list)
    """Those whose acceptance was seen."""
    refused: Counter[str] = attrs.field(factory=Counter)
    """New requests that were answered with an error, by status and code; nothing was promised to them."""
    unknown: Counter[str] = attrs.field(factory=Counter)
    """New requests whose connection broke before a status line: they may have been accepted."""
    http_errors: Counter[str] = attrs.field(factory=Counter)
    """Errors that answered an attempt to follow an accepted request."""

    def __repr__(self) -> str:
        ended = sum(bool(request.ends) for request in self.requests)
        return f"<History {len(self.requests)} accepted, {ended} ended, {self.refused.total()} refused>"

    @property
    def open(self) -> int:
        """Accepted requests without an end so far."""
        return sum(not request.ends for request in self.requests)

    def gaps(self, threshold_s: float = 0.0) -> list[Gap]:
        """Every silence longer than `threshold_s`."""
        return [gap for request in self.requests for gap in request.gaps() if gap.seconds > threshold_s]
