"""Commands and replies as bytes, without I/O: commands are packed, and each reply is matched with its command.

RESP3 replies come in the order of the commands. Pushes may come between two replies. The server answers SUBSCRIBE and
similar commands by pushes alone, one for each channel, or by one ordinary error. Here the last of these pushes is the
command's reply, and is delivered as a push too.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import hiredis

from llmactors.redislink.errors import ProtocolError, reply_error

Token = TypeVar("Token")
Argument = bytes | str | int | float

MAX_UNFINISHED_BYTES = 256 * 1024 * 1024
"""The connection is closed if a longer reply is announced: no reply is longer than this."""

_SUBSCRIPTIONS = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"})
_FORBIDDEN = frozenset({"MONITOR", "RESET", "QUIT", "SYNC", "PSYNC", "HELLO", "CLIENT REPLY"})
_SPECIAL: dict[str | bytes, str] = {
    spelled: name
    for name in (*_SUBSCRIPTIONS, "MONITOR", "RESET", "QUIT", "SYNC", "PSYNC", "HELLO", "CLIENT")
    for lower in (name, name.lower(), name.capitalize())
    for spelled in (lower, lower.encode())
}


class _Unfinished:
    """What the reader returns when it needs more bytes."""


def pack(*args: Argument) -> bytes:
    """One command as RESP."""
    packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type, no-untyped-call, unused-ignore]
    return packed


def pushes_expected(args: tuple[Argument, ...]) -> int:
    """How many pushes answer this command; 0 if an ordinary reply answers it.

    Raises:
        ValueError: The command would change the replies of all other commands on the connection.
    """
    if (name := _SPECIAL.get(args[0])) is None:  # type: ignore[arg-type]
        return 0
    if name in _SUBSCRIPTIONS:
        if len(args) == 1:
            raise ValueError(f"{name} needs the names of its channels, so that the number of its replies is known")
        return len(args) - 1
    if name == "CLIENT":
        second = args[1] if len(args) > 1 else ""
        name = f"CLIENT {second.decode() if isinstance(second, bytes) else second}".upper()
    if name in _FORBIDDEN:
        raise ValueError(f"{name} cannot be sent on a connection that many tasks share")
    return 0


class Pipeline(Generic[Token]):
    """Matches the replies of one connection with its commands. Call `expect` before a command's bytes are sent.

    The bytes may be split in any way.
    """

    def __init__(self) -> None:
        self.waiting: deque[Token] = deque()
        """The commands without a reply, oldest first."""
        self._subscribing: deque[list[Any]] = deque()  # [token, pushes still to come], in the order of `waiting`
        self._reader = hiredis.Reader(protocolError=ProtocolError, replyError=reply_error, notEnoughData=_Unfinished)

    def expect(self, token: Token, pushes: int = 0) -> None:
        """Adds a command: the next reply, or the next `pushes` pushes of a subscription, belong to `token`."""
        self.waiting.append(token)
        if pushes:
            self._subscribing.append([token, pushes])

    def receive(self, data: bytes) -> Iterator[tuple[Token | None, Any]]:
        """Yields replies with their tokens, and pushes with None, in order. An error reply is a `ReplyError`.

        Raises:
            ProtocolError: The bytes are not RESP3. All replies before the wrong bytes were yielded.
        """
        reader, waiting = self._reader, self.waiting
        reader.feed(data)
        while True:
            try:
                reply = reader.gets(False)
            except ProtocolError as error:
                raise ProtocolError(f"not RESP3: {error.message[:80]}") from None
            except (TypeError, ValueError, MemoryError, RecursionError, OverflowError) as error:
                raise ProtocolError("not RESP3: a reply with a value that Python cannot represent") from error
            if reply is _Unfinished:
                if reader.len() > MAX_UNFINISHED_BYTES:
                    raise ProtocolError(f"a reply of more than {MAX_UNFINISHED_BYTES} bytes")
                return
            if type(reply) is hiredis.PushNotification:
                yield None, reply
                if self._subscribing and self._completes(reply):
                    yield waiting.popleft(), reply
            elif waiting:
                token = waiting.popleft()
                if self._subscribing and self._subscribing[0][0] is token:
                    self._subscribing.popleft()
                yield token, reply
            else:
                raise ProtocolError("a reply to no command")

    def _completes(self, push: list[Any]) -> bool:
        """Whether this push is the last one of the oldest command, which is a subscription."""
        first = self._subscribing[0]
        if first[0] is not self.waiting[0] or not push or not isinstance(push[0], bytes):
            return False
        if not push[0].endswith(b"subscribe"):
            return False
        first[1] -= 1
        if first[1]:
            return False
        self._subscribing.popleft()
        return True
