"""Messages in their envelopes, and the control events that a mailbox delivers before messages."""

import enum
import math

import attrs
import trio


class ExitKind(enum.Enum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """The actor had nothing more to do."""
    SHUTDOWN = "shutdown"
    """The actor was asked to stop, and stopped within its grace."""
    KILLED = "killed"
    """The actor was asked to stop, did not stop within its grace, and was cancelled."""
    CRASHED = "crashed"
    """An exception ended the incarnation."""


@attrs.frozen(eq=False)
class Exit:
    """How and why an incarnation ended."""

    kind: ExitKind
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.kind.value if self.error is None else f"{self.kind.value}: {describe(self.error)}"


@attrs.frozen(eq=False)
class Down:
    """The notice to a watcher that an incarnation of an actor has ended."""

    actor: str
    """The actor's path in the tree."""
    incarnation: int
    exit: Exit


class Reply:
    """Carries the answer of one `ask`. The first call of `set` or `fail` counts; later calls have no effect."""

    __slots__ = ("_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._value: object = None
        self._error: BaseException | None = None

    def set(self, value: object) -> None:
        """Answers the ask with `value`."""
        if not self._done.is_set():
            self._value = value
            self._done.set()

    def fail(self, error: BaseException) -> None:
        """Ends the ask with an error, which is raised in the asker."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    async def wait(self) -> object:
        """Waits for the answer and returns it, or raises the error."""
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
    """On Trio's clock. After the deadline the message is dropped unread."""
    incarnation: int | None = None
    """The only incarnation of the receiver that may handle the message; None for any."""
    crashes: int = 0
    """The number of incarnations that crashed while they handled the message."""
    lost: bool = False
    """Whether the message was taken out of its mailbox unread, because the actor ended for good."""


def leaves(error: BaseException) -> list[BaseException]:
    """The plain exceptions in a tree of exception groups, left to right."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for child in error.exceptions for leaf in leaves(child)]
    return [error]


def fatal(error: BaseException) -> BaseException | None:
    """The part of `error` that no restart can mend, or None: out of memory, a broken Trio, an interrupt, an exit."""
    for leaf in leaves(error):
        if isinstance(leaf, MemoryError | trio.TrioInternalError):
            return leaf
        if not isinstance(leaf, Exception | trio.Cancelled):
            return leaf
    return None


def describe(error: BaseException) -> str:
    """One line with an error and its causes, for logs and exit reasons. Never raises."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 4:
        first, *others = leaves(current)
        try:
            text = str(first).partition("\n")[0]
        except Exception:  # noqa: BLE001 - an error is reported even if its `__str__` raises
            text = "(its text raises)"
        more = f" (and {len(others)} more)" if others else ""
        parts.append((f"{type(first).__name__}: {text}" if text else type(first).__name__) + more)
        current = first.__cause__
    return " <- ".join(parts)
