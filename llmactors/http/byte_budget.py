"""Bounds the bytes of all bodies and WebSocket messages that have begun and are not complete. Pure."""

MAX_UNFINISHED_BYTES = 128 * 1024 * 1024


class ByteBudget:
    """The bytes that the connections of one server may hold together."""

    def __init__(self, most: int = MAX_UNFINISHED_BYTES) -> None:
        self._most = most
        self.held = 0
        """The number of bytes that are held now."""

    def __repr__(self) -> str:
        return f"<ByteBudget {self.held} of {self._most}>"

    def take(self, count: int, *, of_large: bool = False) -> bool:
        """Holds `count` more bytes. Returns False, and holds none of them, where that is too much.

        The bytes of large bodies (`of_large`) find room only in the first half, so that a few large bodies that arrive
        slowly do not keep out the small ones.
        """
        if self.held + count > (self._most // 2 if of_large else self._most):
            return False
        self.held += count
        return True

    def give_back(self, count: int) -> None:
        """Holds `count` bytes less."""
        self.held -= count
