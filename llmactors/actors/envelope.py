"""What travels through mailboxes: messages in envelopes, and the control events that go before them."""

import enum
import math

import attrs
import trio


class ExitKind(enum.Enum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """It had nothing more to do."""
    SHUTDOWN = "shutdown"
    """It was asked to stop, and did."""
    KILLED = "killed"
    """It was asked to stop, did not within its grace, and was cancelled."""
    CRASHED = "crashed"
    """An exception ended it."""


@attrs.frozen(eq=False)
class Exit:
    """How and why an incarnation ended."""

    kind: ExitKind
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.kind.value if self.error is None else f"{self.kind.value}: {describe(self.error)}"


@attrs.frozen(eq=False)
class Down:
    """Tells a watcher that an incarnation of an actor ended."""

    actor: str
    """The actor's path in the tree."""
    incarnation: int
    exit: Exit


class Reply:
    """The answer's end of one `ask`. The first of `set` and `fail` counts; what comes later is dropped."""

    __slots__ = ("_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._value: object = None
        self._error: BaseException | None = None

    def set(self, value: object) -> None:
        """Answers."""
        if not self._done.is_set():
            self._value = value
            self._done.set()

    def fail(self, error: BaseException) -> None:
        """Ends the ask with an error, which the asker gets raised."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    async def wait(self) -> object:
        """The value, or raises the error."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value


@attrs.define(eq=False)
class Envelope:
    """One message on its way."""

    message: object
    reply: Reply | None = None
    deadline: float = math.inf
    """On Trio's clock. Past it the message is dropped unread."""
    incarnation: int | None = None
    """Only for this incarnation of the receiver; None for any."""
    crashes: int = 0
    """How often handling it ended an incarnation."""
    lost: bool = False
    """It was taken out of its mailbox unread, because the actor ended for good."""


def leaves(error: BaseException) -> list[BaseException]:
    """The plain exceptions in a tree of exception groups, left to right."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for child in error.exceptions for leaf in leaves(child)]
    return [error]


def fatal(error: BaseException) -> BaseException | None:
    """What in `error` no restart can mend, if anything: out of memory, a broken Trio, an interrupt, an exit."""
    for leaf in leaves(error):
        if isinstance(leaf, MemoryError | trio.TrioInternalError):
            return leaf
        if not isinstance(leaf, Exception | trio.Cancelled):
            return leaf
    return None


def describe(error: BaseException) -> str:
    """An error and its causes in one line, for logs and exit reasons. Never raises."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 4:
        first, *others = leaves(current)
        try:
            text = str(first).partition("\n")[0]
        except Exception:  # noqa: BLE001 - an error whose text cannot be had is still an error to report
            text = "(its text raises)"
        more = f" (and {len(others)} more)" if others else ""
        parts.append((f"{type(first).__name__}: {text}" if text else type(first).__name__) + more)
        current = first.__cause__
    return " <- ".join(parts)
