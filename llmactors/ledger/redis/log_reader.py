"""Keeps a gateway's copies of logs complete, and gives back to Redis what Redis has lost.

Redis may lose what it acknowledged last: after a crash with `appendfsync everysec`, or a failover. Then the log is
shorter than a copy, or the request is unknown. The reader extends the log, or restores the request with its tokens.
"""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from llmactors.errors import Unavailable
from llmactors.ledger.redis import codec
from llmactors.ledger.redis.functions import LedgerFunctions, expect_known
from llmactors.ledger.redis.log_copies import DIVERGED, LOST, UNREADABLE, LogCopies, LogCopy, is_silent
from llmactors.ledger.redis.losses import RedisLoss, RedisLosses
from llmactors.ledger.redis.wrong_keys import WrongKeys
from llmactors.messages import Failed, TokenDelta

_UNREADABLE = 8
"""After how many reads in a row a log counts as unreadable, because a key of its request has another type."""
_READ_AT_ONCE = 64
"""How many logs one call reads at most."""


class LogReader:
    """All logs that this process reads. Run `run` as a task.

    `inbox` is the channel of this process's pushes. The logs of running requests are read again after `silence_s`
    without a push, and less often after a long silence; a copy that nobody has used for `unread_copy_s` is dropped.
    Redis is told every `still_read_s` which logs are still read that have ended, so that it keeps them; 0: at each
    `sync`.
    """

    def __init__(
        self,
        functions: LedgerFunctions,
        wrong_keys: WrongKeys,
        losses: RedisLosses,
        inbox: str,
        *,
        silence_s: float,
        unread_copy_s: float,
        still_read_s: float,
    ) -> None:
        self.losses = losses
        self.copies = LogCopies(trio.current_time, lambda copy: self.losses.note(RedisLoss.ENDED, copy.request_id))
        self._functions = functions
        self._wrong_keys = wrong_keys
        self._inbox = inbox
        self._silence_s = silence_s
        self._unread_copy_s = unread_copy_s
        self._still_read_s = still_read_s
        self._unfollowed: list[str] = []
        self._first_reads: list[_FirstRead] = []
        """The first reads that were asked for since the last call."""
        self._has_first_reads = trio.Event()
        self._wake = trio.Event()
        self._syncing = trio.Lock()

    def __repr__(self) -> str:
        return f"<LogReader {self.copies!r}>"

    async def run(self) -> None:
        """Reads logs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_late)
            while True:
                await self._has_first_reads.wait()
                self._has_first_reads = trio.Event()
                while some := self._first_reads[:_READ_AT_ONCE]:
                    del self._first_reads[:_READ_AT_ONCE]
                    nursery.start_soon(self._read_first, some)

    async def _read_late(self) -> None:
        """Reads the logs of copies that are late."""
        while True:
            with trio.move_on_after(min(self._silence_s / 2, self._still_read_s or math.inf)):
                await self._wake.wait()
            self._wake = trio.Event()
            self.forget_unread(self._unread_copy_s)
            await self.sync()

    def apply_push(self, payload: bytes) -> None:
        """Merges a push into the copies. Never waits."""
        if self.copies.apply_push(payload):
            self._wake.set()

    def compare_all(self) -> None:
        """Has all logs compared with their copies, after a new connection."""
        self.copies.compare_all()
        self._wake.set()

    async def open(self, request_id: str) -> LogCopy:
        """A copy of a log that was not copied yet. Raises `Expired`, `NotFound` or `Unavailable`.

        All logs that are asked for in one pass of the scheduler, as in a takeover, are read by one call.
        """
        copy = self.copies.open(request_id)
        copy.opening = trio.Event()
        read = _FirstRead(copy)
        self._first_reads.append(read)
        self._has_first_reads.set()
        try:
            _, epoch, _, _, chunks = expect_known(await read.wait())
            copy.merge(epoch, 1, *codec.join(chunks))
        except BaseException:
            self.forget(copy)
            raise
        finally:
            copy.opening.set()
        if copy.is_behind:
            self._wake.set()  # a push of later entries came before this task ran
        return copy

    async def _read_first(self, reads: "list[_FirstRead]") -> None:
        # Who does not wait any more has forgotten its copy, and nobody would tell Redis that.
        reads = [each for each in reads if self.copies.get(each.copy.request_id) is each.copy]
        if not reads:
            return
        parts = [part for each in reads for part in (each.copy.request_id, 0)]
        try:
            replies = await self._functions.call_with_timeout("tail", self._inbox, *parts)
        except Unavailable as error:
            for each in reads:
                each.end(error)
        else:
            for each, reply in zip(reads, replies, strict=True):
                each.end(reply)

    def readers_changed(self, copy: LogCopy) -> None:
        """Drops a copy whose last follower was closed."""
        if not copy.readers:
            self.forget(copy)

    def forget(self, copy: LogCopy) -> None:
        """Drops a copy, and has the next `sync` tell Redis that this process does not read the request any more."""
        self.copies.drop(copy)
        if copy.end is None:
            self._unfollowed.append(copy.request_id)
            self._wake.set()

    async def sync(self) -> None:
        """Reads the logs of late copies, renews this gateway's lease, and says which requests are read no more, and
        which of those that have ended still are.
        """
        async with self._syncing:
            await self._unfollow()
            await self._keep_read()
            late = self._late_copies()
            while self.copies:  # a process that reads no log, as a worker, needs no lease of a gateway
                some, late = late[:_READ_AT_ONCE], late[_READ_AT_ONCE:]
                reads = [_Read.of(copy) for copy in some]
                parts = [part for each in reads for part in (each.copy.request_id, each.after)]
                replies = await self._functions.call_until_done("tail", self._inbox, *parts)
                for each, reply in zip(reads, replies, strict=True):
                    if reply[0] == b"wrong":
                        self._note_unreadable(each.copy, reply[1])
                    else:
                        each.copy.unreadable = 0
                        await self._reconcile(each, reply)
                if not late:
                    break
            self.losses.say()

    async def _unfollow(self) -> None:
        while self._unfollowed:
            ids, self._unfollowed = self._unfollowed[:_READ_AT_ONCE], self._unfollowed[_READ_AT_ONCE:]
            gone = [each for each in ids if self.copies.get(each) is None]
            await self._functions.call_until_done("unfollow", self._inbox, *gone)

    async def _keep_read(self) -> None:
        """Has Redis keep the logs that have ended and that slow clients still read."""
        told_by = trio.current_time() - self._still_read_s
        read = [copy for copy in self.copies if copy.readers and copy.is_kept_ended and copy.updated_at <= told_by]
        while read:
            some, read = read[:_READ_AT_ONCE], read[_READ_AT_ONCE:]
            kept = await self._functions.call_until_done("still_read", *(copy.request_id for copy in some))
            for copy, is_kept in zip(some, kept, strict=True):
                copy.updated_at, copy.is_gone = trio.current_time(), not is_kept

    def forget_unread(self, since_s: float) -> None:
        """Drops copies that nobody has used for `since_s` seconds, however much is written to their logs."""
        for copy in self.copies:
            if not copy.readers and copy.used_at + since_s <= trio.current_time():
                self.forget(copy)

    def _late_copies(self) -> list[LogCopy]:
        late: list[LogCopy] = []
        now = trio.current_time()
        for copy in self.copies:
            if copy.end is not None or (copy.opening is not None and not copy.opening.is_set()):
                continue
            if is_silent(copy, now, self._silence_s) or copy.is_behind or copy.needs_comparison:
                late.append(copy)
        return late

    def _note_unreadable(self, copy: LogCopy, key: bytes) -> None:
        """Ends the copy of a request of which a key has had another type for many reads."""
        self._wrong_keys.report([key])
        copy.updated_at = trio.current_time()
        copy.unreadable += 1
        if copy.end is None and copy.unreadable >= _UNREADABLE:
            copy.close(UNREADABLE)

    async def _reconcile(self, read: "_Read", reply: list[Any]) -> None:
        """Makes a copy and its log equal again, or ends the copy where the two contradict."""
        kind, *found = reply
        copy = read.copy
        copy.updated_at = trio.current_time()
        if copy.end is not None:
            return
        if kind == b"gone":
            self._end(copy, LOST)
        elif kind == b"unknown":
            await self._restore(copy)
        else:
            state, epoch, _, count, chunks = found
            tokens, end = codec.join(chunks)
            if count >= read.known:
                self.copies.merge(copy, epoch, count - len(tokens) + 1, tokens, end)
            elif end is not None:
                self._end(copy, DIVERGED)
            elif not read.compares:
                self._compare_later(copy)  # the log is shorter than the copy, so all of the log is to be compared
            elif copy.tokens[:count] != tokens:
                self._end(copy, DIVERGED)
            else:
                hand_back = state == b"r" and epoch != copy.epoch
                lost = len(copy.tokens) - count
                if await self._extend(copy.request_id, epoch, count, copy.tokens, hand_back=hand_back):
                    self.losses.note(RedisLoss.EXTENDED, copy.request_id, tokens=lost)
                else:
                    self._compare_later(copy)

    def _end(self, copy: LogCopy, end: Failed) -> None:
        """Ends a copy of whose answer Redis has lost what nobody can give back."""
        copy.close(end)
        self.losses.note(RedisLoss.ENDED, copy.request_id)

    def _compare_later(self, copy: LogCopy) -> None:
        copy.needs_comparison = True
        self._wake.set()

    async def _restore(self, copy: LogCopy) -> None:
        """Admits a request again that Redis accepted and forgot, with the tokens of the copy."""
        candidate = copy.candidate
        if candidate is None:
            self._end(copy, LOST)
            return
        request = candidate.request
        waited_ms = round((trio.current_time() - copy.opened_at) * 1000)
        body, tokens = codec.encode_request(request), codec.encode_tokens(copy.tokens)
        fields = codec.fields_of(candidate, waited_ms=waited_ms)
        parts = (request.id, body, self._inbox, *fields, len(copy.tokens), tokens, codec.encode_charges(candidate))
        tokens_given_back = len(copy.tokens)
        if await self._functions.call_until_done("restore", *parts) == b"restored":
            self.losses.note(RedisLoss.RESTORED, request.id, tokens=tokens_given_back)

    async def _extend(
        self, request_id: str, epoch: int, count: int, tokens: Sequence[TokenDelta], *, hand_back: bool
    ) -> bool:
        """Writes the tokens after the first `count`. False where the log has changed since it was read.

        `hand_back` puts the request back into the queue: its worker continues from the shorter log.
        """
        more = codec.encode_tokens(tokens[count:])
        parts = (request_id, epoch, count, len(tokens) - count, more, int(hand_back))
        kind, *done = await self._functions.call_with_timeout("extend", *parts)
        return bool(kind == b"known" and done[0])


@attrs.define
class _FirstRead:
    """The first read of a log, for which a task waits."""

    copy: LogCopy
    _outcome: list[Any] | Unavailable = attrs.field(factory=list)
    _done: trio.Event = attrs.field(factory=trio.Event)

    def end(self, outcome: list[Any] | Unavailable) -> None:
        """Gives the waiting task the reply, or the error."""
        self._outcome = outcome
        self._done.set()

    async def wait(self) -> list[Any]:
        """The reply. Raises `Unavailable`."""
        await self._done.wait()
        if isinstance(self._outcome, Unavailable):
            # An error of its own for each task: a traceback belongs to one.
            raise Unavailable(self._outcome.message, retry_after_s=self._outcome.retry_after_s)
        return self._outcome


@attrs.frozen
class _Read:
    """A read of one log, and the state of its copy before: pushes may extend the copy meanwhile."""

    copy: LogCopy
    compares: bool
    """Whether the whole log is read."""
    known: int
    """How many tokens the copy had."""

    @classmethod
    def of(cls, copy: LogCopy) -> "_Read":
        read = cls(copy, copy.needs_comparison, len(copy.tokens))
        copy.is_behind = copy.needs_comparison = False
        return read

    @property
    def after(self) -> int:
        return 0 if self.compares else self.known
