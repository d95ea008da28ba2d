"""An answer as it is kept while the clock runs: its bytes, and when they came. Pure."""

import bisect

import attrs


class Malformed(Exception):
    """An answer is not what it must be."""

    def __init__(self, kind: str, detail: str, *, code: str = "", refusal: bool = False) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        """The error class."""
        self.detail = detail
        self.code = code
        """What the server itself calls it."""
        self.refusal = refusal
        """The server said no before it began."""


@attrs.define(eq=False)
class Answer:
    """The raw answer to one request, and when its bytes arrived."""

    index: int
    begun: float
    """When the request was sent, or should have been."""
    data: bytearray = attrs.field(factory=bytearray)
    read_ends: list[int] = attrs.field(factory=list)
    read_times: list[float] = attrs.field(factory=list)
    closing: bool = False
    """The server takes no other request on this connection."""

    def feed(self, data: bytes, now: float) -> bool:
        """Takes in one read; True once the answer is complete."""
        raise NotImplementedError

    def feed_eof(self) -> bool:
        """The server has closed; True where that completes the answer."""
        return False

    @property
    def ended(self) -> float:
        """When its last bytes were here."""
        return self.read_times[-1]

    @property
    def held_bytes(self) -> int:
        """About what it takes in memory."""
        return 500 + len(self.data) + 80 * len(self.read_ends)

    def read_of(self, offset: int) -> int:
        """Which read completed the first `offset` bytes."""
        return bisect.bisect_left(self.read_ends, offset)

    def arrival(self, offset: int) -> float:
        """When the first `offset` bytes were here."""
        return self.read_times[bisect.bisect_left(self.read_ends, offset)]
