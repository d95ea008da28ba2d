"""Keeps a gateway's copies of logs up: reads what pushes left out, and gives back to Redis what that has lost."""

from collections.abc import Sequence
from typing import Any

import attrs
import structlog
import trio

from llmactors.ledger.redis import codec
from llmactors.ledger.redis.calls import Calls, expect_known
from llmactors.ledger.redis.mirrors import DIVERGED, LOST, Mirror, Mirrors
from llmactors.messages import TokenDelta

log = structlog.get_logger("llmactors.ledger")

_READ_AT_ONCE = 64


class LogReader:
    """All logs that this process reads. Run `run` as a task. `inbox` is the channel that pushes come by."""

    def __init__(self, calls: Calls, inbox: str, silence_s: float, unread_s: float) -> None:
        self.mirrors = Mirrors(trio.current_time)
        self._calls = calls
        self._inbox = inbox
        self._silence_s = silence_s
        self._unread_s = unread_s
        self._unfollowed: list[str] = []
        self._wake = trio.Event()
        self._syncing = trio.Lock()

    def __repr__(self) -> str:
        return f"<Reading {self.mirrors!r}>"

    async def run(self) -> None:
        """For ever."""
        while True:
            with trio.move_on_after(self._silence_s / 2):
                await self._wake.wait()
            self._wake = trio.Event()
            self.forget_unread(self._unread_s)
            await self.sync()

    def hear(self, payload: bytes) -> None:
        """Takes in a push. Never waits."""
        if self.mirrors.hear(payload):
            self._wake.set()

    def doubt_all(self) -> None:
        """Pushes were missed, and the server may be another: all is to be compared."""
        self.mirrors.doubt_all()
        self._wake.set()

    async def open(self, request_id: str) -> Mirror:
        mirror = self.mirrors.open(request_id)
        mirror.opening = trio.Event()
        try:
            # Pushes of what is written after this was answered may come before the answer is looked at.
            [reply] = await self._calls.ask("tail", self._inbox, request_id, 0)
            _, epoch, _, _, chunks = expect_known(reply)
            mirror.hear(epoch, 1, *codec.join(chunks))
            mirror.behind = False
        except BaseException:
            self.forget(mirror)
            raise
        finally:
            mirror.opening.set()
        return mirror

    def reader_changed(self, mirror: Mirror) -> None:
        if not mirror.readers:
            self.forget(mirror)

    def forget(self, mirror: Mirror) -> None:
        self.mirrors.drop(mirror)
        if mirror.end is None:
            self._unfollowed.append(mirror.request_id)
            self._wake.set()

    async def sync(self) -> None:
        """Reads whatever was not heard of for a while; renews this gateway's lease; says what is not read any more."""
        async with self._syncing:
            await self._unfollow()
            late = self._late_mirrors()
            while True:
                some, late = late[:_READ_AT_ONCE], late[_READ_AT_ONCE:]
                asked = [_Asked.of(mirror) for mirror in some]
                parts = [part for each in asked for part in (each.mirror.request_id, each.after)]
                replies = await self._calls.insist("tail", self._inbox, *parts)
                for each, reply in zip(asked, replies, strict=True):
                    await self._mend(each, reply)
                if not late:
                    return

    async def _unfollow(self) -> None:
        while self._unfollowed:
            ids, self._unfollowed = self._unfollowed[:_READ_AT_ONCE], self._unfollowed[_READ_AT_ONCE:]
            gone = [each for each in ids if self.mirrors.get(each) is None]
            await self._calls.insist("unfollow", self._inbox, *gone)

    def forget_unread(self, since_s: float) -> None:
        """Drops copies that nobody has come to read for `since_s` seconds, however much is written to their logs."""
        for mirror in self.mirrors:
            if not mirror.readers and mirror.wanted_at + since_s <= trio.current_time():
                self.forget(mirror)

    def _late_mirrors(self) -> list[Mirror]:
        late: list[Mirror] = []
        now = trio.current_time()
        for mirror in self.mirrors:
            if mirror.end is not None or (mirror.opening is not None and not mirror.opening.is_set()):
                continue
            silent = mirror.heard_at + self._silence_s <= now
            if silent or mirror.behind or mirror.doubtful:
                late.append(mirror)
        return late

    async def _mend(self, asked: "_Asked", reply: list[Any]) -> None:
        """Brings a copy and its log together again."""
        kind, *found = reply
        mirror = asked.mirror
        mirror.heard_at = trio.current_time()
        if mirror.end is not None:
            return
        if kind == b"gone":
            mirror.close(LOST)
        elif kind == b"unknown":
            await self._restore(mirror)
        else:
            state, epoch, _, count, chunks = found
            tokens, end = codec.join(chunks)
            if count >= asked.known:
                mirror.hear(epoch, count - len(tokens) + 1, tokens, end)
            elif end is not None:
                mirror.close(DIVERGED)
            elif not asked.compares:
                self._doubt(mirror)  # the log is shorter than the copy, so all of it is to be compared
            elif mirror.tokens[:count] != tokens:
                mirror.close(DIVERGED)
            else:
                hand_back = state == b"r" and epoch != mirror.epoch
                log.warning("log mended", request_id=mirror.request_id, tokens=len(mirror.tokens) - count)
                if not await extend(self._calls, mirror.request_id, epoch, count, mirror.tokens, hand_back=hand_back):
                    self._doubt(mirror)

    def _doubt(self, mirror: Mirror) -> None:
        mirror.doubtful = True
        self._wake.set()

    async def _restore(self, mirror: Mirror) -> None:
        """Redis forgot a request that it had accepted."""
        candidate = mirror.candidate
        if candidate is None:
            mirror.close(LOST)
            return
        request = candidate.request
        log.warning("request restored", request_id=request.id, tokens=len(mirror.tokens))
        body, tokens = codec.encode_request(request), codec.encode_tokens(mirror.tokens)
        parts = (request.id, body, self._inbox, *codec.fields_of(candidate), len(mirror.tokens), tokens)
        parts += (codec.encode_charges(candidate),)
        await self._calls.insist("restore", *parts)


@attrs.frozen
class _Asked:
    """What a copy was like when its log was asked for: it may have grown since, by pushes."""

    mirror: Mirror
    compares: bool
    """The whole log was asked for."""
    known: int
    """Tokens that the copy had."""

    @classmethod
    def of(cls, mirror: Mirror) -> "_Asked":
        asked = cls(mirror, mirror.doubtful, len(mirror.tokens))
        mirror.behind = mirror.doubtful = False
        return asked

    @property
    def after(self) -> int:
        return 0 if self.compares else self.known


async def extend(
    calls: Calls, request_id: str, epoch: int, count: int, tokens: Sequence[TokenDelta], *, hand_back: bool
) -> bool:
    """Writes what follows on the first `count` of `tokens`. False where the log has changed since it was read."""
    more = codec.encode_tokens(tokens[count:])
    parts = (request_id, epoch, count, len(tokens) - count, more, int(hand_back))
    kind, *done = await calls.ask("extend", *parts)
    return bool(kind == b"known" and done[0])
