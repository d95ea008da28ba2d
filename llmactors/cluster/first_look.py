"""The first look of a gateway at the records of the workers, and the wait for it."""

import trio

KNOWN_S = 10.0
"""The longest wait."""


class FirstLook:
    """Whether the records were read once. The reader calls `taken` then, and `failed` while they cannot be read."""

    def __init__(self) -> None:
        self.is_taken = False
        self._over = trio.Event()

    def __repr__(self) -> str:
        return f"<FirstLook {'taken' if self.is_taken else 'awaited'}>"

    def taken(self) -> None:
        """The records were read."""
        self.is_taken = True
        self._over.set()

    def failed(self) -> None:
        """Lets nobody wait any longer: Redis, without which nothing can be accepted, is away."""
        self._over.set()
        self._over = trio.Event()

    async def wait(self) -> None:
        """Waits until the records were read once, or cannot be read, for at most `KNOWN_S` seconds."""
        if not self.is_taken:
            with trio.move_on_after(KNOWN_S):
                await self._over.wait()
