"""What clients saw: every event of every request, with its time of arrival. Pure: no sockets, no clock.

All times are readings of `time.monotonic`, as the times of the faults in `nemeses` are.
"""

import itertools
from collections import Counter
from typing import NamedTuple

import attrs


class TokenSeen(NamedTuple):
    """A token event, and when it arrived."""

    seq: int
    text: str
    at: float


@attrs.frozen
class EndSeen:
    """A terminal event, and when it arrived."""

    name: str
    """`done` or `error`."""
    seq: int
    at: float
    code: str = ""
    """The error code of an `error` event."""
    completion_tokens: int | None = None
    """The number of tokens that a `done` event names."""


@attrs.frozen
class Gap:
    """The time between two consecutive events of one stream, which may have come over two connections."""

    seconds: float
    begun: float
    request_id: str
    after_seq: int

    @property
    def ended(self) -> float:
        """When the next event arrived."""
        return self.begun + self.seconds


@attrs.define(eq=False)
class RequestHistory:
    """What a client saw of one request."""

    prompt: str
    seed: int
    max_tokens: int
    sent_at: float
    id: str = ""
    accepted_at: float | None = None
    """When the status line with the request's id arrived; None: the request may or may not have been accepted."""
    tokens: list[TokenSeen] = attrs.field(factory=list)
    """All token events in order of arrival, including repeated ones."""
    ends: list[EndSeen] = attrs.field(factory=list)
    """All terminal events in order of arrival."""
    last_event_id: int = 0
    """The seq of the newest event, which the client names when it reconnects."""
    tokens_after_end: int = 0
    """The number of token events that came after a terminal event."""
    foreign: int = 0
    """The number of events that carry the id of another stream."""
    connections: int = 0
    cuts: Counter[str] = attrs.field(factory=Counter)
    """Why connections of the request ended early, and how often."""
    gone: int = 0
    """The status that made the client give up: 404, 410, or 204 before any terminal event; 0: none did."""
    replay: "RequestHistory | None" = None
    """The whole log, which the client read again from its beginning after the end; None: the client did not."""

    def __repr__(self) -> str:
        ends = "+".join(end.name for end in self.ends) or "open"
        return f"<RequestHistory {self.id or 'unanswered'} {len(self.tokens)} of {self.max_tokens} tokens, {ends}>"

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.connections - 1)

    def add_token(self, seq: int, text: str, at: float) -> None:
        """Records a token event."""
        self.tokens_after_end += bool(self.ends)
        self.tokens.append(TokenSeen(seq, text, at))
        self.last_event_id = seq

    def add_end(self, end: EndSeen) -> None:
        """Records a terminal event."""
        self.ends.append(end)
        self.last_event_id = end.seq

    def gaps(self) -> list[Gap]:
        """The times between consecutive events, from the first token to the first terminal event."""
        moments = [(token.at, token.seq) for token in self.tokens]
        moments += [(end.at, end.seq) for end in self.ends[:1]]
        moments.sort()
        return [Gap(after[0] - at, at, self.id, seq) for (at, seq), after in itertools.pairwise(moments)]

    def biggest_gap(self) -> Gap | None:
        """The longest gap; None if there were fewer than two events."""
        return max(self.gaps(), key=lambda gap: gap.seconds, default=None)


@attrs.define(eq=False)
class History:
    """Everything that the clients of one load saw."""

    requests: list[RequestHistory] = attrs.field(factory=list)
    """The requests that a client knows to be accepted."""
    refused: Counter[str] = attrs.field(factory=Counter)
    """The number of new requests that were answered with an error, by status and code."""
    unknown: Counter[str] = attrs.field(factory=Counter)
    """The number of new requests whose connection broke before a status line, by reason. They may be accepted."""
    http_errors: Counter[str] = attrs.field(factory=Counter)
    """The number of errors that answered an attempt to follow an accepted request, by status and code."""

    def __repr__(self) -> str:
        ended = sum(bool(request.ends) for request in self.requests)
        return f"<History {len(self.requests)} accepted, {ended} ended, {self.refused.total()} refused>"

    @property
    def open(self) -> int:
        """The number of accepted requests without a terminal event."""
        return sum(not request.ends for request in self.requests)

    def gaps(self, threshold_s: float = 0.0) -> list[Gap]:
        """Every gap longer than `threshold_s`."""
        return [gap for request in self.requests for gap in request.gaps() if gap.seconds > threshold_s]
