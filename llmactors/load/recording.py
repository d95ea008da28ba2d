"""The recording of one answer: its bytes, and when they came. Nothing is parsed while the clock runs. Pure."""

import bisect

import attrs


class Malformed(Exception):
    """An answer is incomplete, wrong, or an error."""

    def __init__(self, kind: str, detail: str, *, code: str = "", refusal: bool = False) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        """The class of the failure, as the report counts it."""
        self.detail = detail
        self.code = code
        """The server's own code of the error."""
        self.refusal = refusal
        """The server refused the request before it began an answer."""


@attrs.define(eq=False)
class Recording:
    """The bytes of the answer to one request, and the times of the reads that brought them."""

    index: int
    """The request's number in the plan."""
    begun: float
    """When the request was sent, or should have been."""
    data: bytearray = attrs.field(factory=bytearray)
    read_ends: list[int] = attrs.field(factory=list)
    """How long `data` was after each read."""
    read_times: list[float] = attrs.field(factory=list)
    closing: bool = False
    """The server takes no other request on this connection."""

    def feed(self, data: bytes, now: float) -> bool:
        """Records one read, and returns whether the answer is complete."""
        raise NotImplementedError

    def feed_eof(self) -> bool:
        """Records the end of the connection, and returns whether that completes the answer."""
        return False

    @property
    def ended(self) -> float:
        """When the last bytes came."""
        return self.read_times[-1]

    @property
    def held_bytes(self) -> int:
        """About how much memory the recording takes."""
        return 500 + len(self.data) + 80 * len(self.read_ends)

    def read_of(self, offset: int) -> int:
        """Which read completed the first `offset` bytes."""
        return bisect.bisect_left(self.read_ends, offset)
