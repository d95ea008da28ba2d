"""Messages in their envelopes, and the control events that a mailbox delivers before messages."""

import enum
import math
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
import trio

R = TypeVar("R")
"""What a question is answered with."""


class Question(Generic[R]):
    """A message that is answered with an `R`, as `class HowMany(Question[int])`: so a type checker knows the answer."""

    __slots__ = ()


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

    __slots__ = ("_asker", "_done", "_error", "_value", "on_done")

    def __init__(self) -> None:
        self._done = False
        self._value: object = None
        self._error: BaseException | None = None
        self._asker: trio.lowlevel.Task | None = None
        self.on_done: Callable[[], object] | None = None
        """Is called once the ask has its answer or its error."""

    def __repr__(self) -> str:
        return f"<Reply {'done' if self._done else 'open'}>"

    def set(self, value: object) -> None:
        """Answers the ask with `value`."""
        if not self._done:
            self._value = value
            self._end()

    def fail(self, error: BaseException) -> None:
        """Ends the ask with an error, which is raised in the asker."""
        if not self._done:
            self._error = error
            self._end()

    def _end(self) -> None:
        self._done = True
        if self._asker is not None:
            trio.lowlevel.reschedule(self._asker)
            self._asker = None
        if self.on_done is not None:
            self.on_done()

    async def wait(self) -> object:
        """Waits for the answer and returns it, or raises the error. Only one task may wait. A checkpoint."""
        if self._done:
            await trio.lowlevel.checkpoint()
        else:
            # An event would cost each ask a set of waiting tasks, and only the asker waits.
            self._asker = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._forget_asker)
        if self._error is not None:
            raise self._error
        return self._value

    def _forget_asker(self, _: object) -> trio.lowlevel.Abort:
        self._asker = None
        return trio.lowlevel.Abort.SUCCEEDED


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
    deliveries: int = 0
    """How often an incarnation ended with the message in hand."""
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


def forget_tracebacks(error: BaseException | None) -> None:
    """Drops the tracebacks of `error`, of its causes and of its parts. The errors and their texts are kept.

    Otherwise an exit that is kept would keep the dead incarnation, and all that its handlers had, in memory.
    """
    seen: set[int] = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # The frames themselves are left alone: a shared error can have the frame of a task that still runs.
        current.__traceback__ = None
        pending += (current.__cause__, current.__context__)
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions
