"""The `Ledger` Protocol over Redis: for any number of gateways and workers in any number of processes.

Every operation is one call of a function in Redis, and may be called again: a reply that was lost is asked for again.
For gateways that goes on for `patience_s`, then they raise `errors.Unavailable`. Workers wait for as long as it takes,
since what they hold is not lost while they live.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import structlog
import trio

from llmactors.errors import Expired, NotFound, Unavailable
from llmactors.ledger.backlog import size_bytes, ticket_for
from llmactors.ledger.contract import (
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Claim,
    DeadLetter,
    LedgerStatistics,
    LogSlice,
    ReleaseHow,
    RepairOutcome,
    RequestInfo,
    SubmitOutcome,
)
from llmactors.ledger.digest import log_digest
from llmactors.ledger.follower import LogFollower
from llmactors.ledger.redis import codec
from llmactors.ledger.redis.library import function_name, load_library
from llmactors.ledger.redis.mirrors import DIVERGED, LOST, Mirror, Mirrors
from llmactors.ledger.redis.workers import Workers
from llmactors.ledger.settings import LedgerSettings
from llmactors.messages import GenerateRequest, Terminal, TokenDelta
from llmactors.redislink import Call, LinkSettings, RedisLink
from llmactors.redislink.errors import NoSuchFunction, OutOfMemory

log = structlog.get_logger("llmactors.ledger")

_OUTCOMES = (
    AppendOutcome.OK,
    AppendOutcome.FENCED,
    AppendOutcome.STOP,
    AppendOutcome.GAP,
    AppendOutcome.GONE,
)
_OVER = (AppendOutcome.FENCED, AppendOutcome.STOP, AppendOutcome.GONE)
_HAVE = 5
"""The answer to an entry that begins within the log: how many tokens that has."""
_STATES = {b"q": "queued", b"r": "running", b"e": "ended"}
_READ_AT_ONCE = 64
_LINK = LinkSettings(backoff_max_s=0.2)
"""Quick, so that after a restart of Redis every worker is back before it counts as gone, `hung_up_s` later."""


@attrs.frozen(kw_only=True)
class RedisLedgerSettings:
    """What only a ledger across processes has to know. Times in seconds."""

    namespace: str = "main"
    """Ledgers of different namespaces share nothing."""
    patience_s: float = 2.0
    """How long an operation of a gateway is tried before it is `Unavailable`."""
    silence_s: float = 1.0
    """A log whose request runs and that nothing is heard of for so long is read: a push is only a hint."""
    reader_s: float = 5.0
    """A gateway that is silent for so long reads nothing any more."""
    outage_s: float = 0.75
    """If the ledger was not looked at for so long, it was away: no lease and no grace runs out in that time."""
    hung_up_s: float = 0.5
    """A worker whose connection ended, as a dead process's does at once, and that does not come back within so long has
    lost its requests, however long its lease. The lease is for one that hangs, and for a machine that is gone."""
    look_every_s: float = 0.5
    """A worker looks for work this often also if nothing wakes it."""
    keep_s: float = 86_400.0
    """Time to live of every key that is in use, as a last resort: it is renewed at each claim."""


class RedisLedger:
    """One per process. Run `run` as a task; other methods wait until it has a connection.

    `clock_ms` gives the time since 1970, in milliseconds, to tests; None leaves it to the server.
    """

    def __init__(
        self,
        url: str,
        settings: LedgerSettings | None = None,
        redis_settings: RedisLedgerSettings | None = None,
        *,
        link_settings: LinkSettings | None = None,
        name: str = "llmactors",
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.settings = settings or LedgerSettings()
        self._redis = redis_settings or RedisLedgerSettings()
        self.prefix = f"llmactors:{{{self._redis.namespace}}}:"
        self._clock_ms = clock_ms
        self._packed = codec.encode_settings(
            self.settings,
            reader_s=self._redis.reader_s,
            outage_s=self._redis.outage_s,
            hung_up_s=self._redis.hung_up_s,
            keep_s=self._redis.keep_s,
        )
        self._inbox = f"{self.prefix}inbox:{secrets.token_hex(8)}"
        self._wake_channel = f"{self.prefix}wake"
        self._mirrors = Mirrors(trio.current_time)
        self._workers = Workers()
        self._unfollowed: list[str] = []
        self._wake_keeper = trio.Event()
        self._syncing = trio.Lock()
        self.link = RedisLink(
            url, link_settings or _LINK, name=name, on_push=self._on_push, on_connect=self._on_connect
        )

    def __repr__(self) -> str:
        return f"<RedisLedger {self.prefix} {self.link!r} {self._mirrors!r}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """For ever. Raises what keeps it from its first connection; after that it outlives any outage."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.link.run)
            nursery.start_soon(self._keep_reading)
            task_status.started()

    # For gateways.

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        body = codec.encode_request(request)
        known = self._mirrors.get(request.id)
        # Copied from the first token on, so that whoever admits a request need not ask for its log.
        mirror = known or self._mirrors.open(request.id, request)
        accepted = False
        try:
            said = await self._ask("submit", request.id, body, self._inbox, *_fields(request))
            outcome = SubmitOutcome(said.decode())
            accepted = outcome is SubmitOutcome.ACCEPTED
        finally:
            if known is None and not accepted:
                self._forget(mirror)
        return outcome

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        wait_ms = await self._ask("expected_wait", request.model, request.tenant, request.priority)
        return int(wait_ms) / 1000

    async def info(self, request_id: str) -> RequestInfo:
        body, state, epoch, attempt, last_seq = self._known(await self._ask("info", request_id))
        return RequestInfo(codec.decode_request(body), _STATES[state], epoch, attempt, last_seq)

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        _check_seq(after)
        _, _, _, count, chunks = self._known(await self._ask("read", request_id, after))
        tokens, end = _join(chunks)
        if end is not None:
            after = min(after, count)
        return LogSlice(after + 1, tokens[len(tokens) - (count - after) :] if count > after else (), end)

    async def follow(self, request_id: str, after: int = 0) -> LogFollower:
        _check_seq(after)
        mirror = self._mirrors.get(request_id)
        if mirror is None:
            mirror = await self._open_mirror(request_id)
        elif mirror.opening is not None and not mirror.opening.is_set():
            await mirror.opening.wait()
            return await self.follow(request_id, after)
        mirror.heard_at = trio.current_time()
        return LogFollower(mirror, after, lambda: self._reader_changed(mirror))

    async def watch(self, request_id: str, ttl_ms: int) -> None:
        self._known(await self._ask("watch", request_id, ttl_ms))

    async def cancel(self, request_id: str) -> bool:
        [was_running] = self._known(await self._ask("cancel", request_id))
        return bool(was_running)

    async def repair(self, request_id: str, epoch: int, digest: bytes, tokens: Sequence[TokenDelta]) -> RepairOutcome:
        offered = list(tokens)
        if digest != log_digest(offered):
            return RepairOutcome.DIVERGED
        while True:
            kind, *found = await self._ask("read", request_id, 0)
            if kind != b"known":
                return RepairOutcome.GONE
            state, present, _, count, chunks = found
            known, _ = _join(chunks)
            if offered[:count] != known[: len(offered)]:
                return RepairOutcome.DIVERGED
            if len(offered) <= count:
                return RepairOutcome.OK
            if present != epoch or state == b"e":
                return RepairOutcome.DIVERGED
            if await self._extend(request_id, present, count, offered, hand_back=False):
                return RepairOutcome.OK

    # For workers.

    async def beat(self, worker: str) -> BeatResult:
        live, stops, held = await self._insist("beat", worker, self._inbox)
        if not live:
            self._workers.drop(worker)
            return BeatResult(live=False)
        self._workers.get(worker).news.heard_stops()
        stop = [(request_id, int(epoch)) for request_id, _, epoch in (item.decode().rpartition(" ") for item in stops)]
        found = {(request_id.decode(), epoch) for request_id, epoch in zip(held[::2], held[1::2], strict=True)}
        for request_id, epoch in self._workers.get(worker).unaccounted(found):
            # Redis lost what became of it, or the reply that brought it here was: nobody would ever finish it.
            log.warning("claim handed back that nobody here knows", request_id=request_id, worker=worker)
            await self.release(request_id, epoch, ReleaseHow.SILENT)
        return BeatResult(live=True, stop=tuple(stop))

    async def leave(self, worker: str) -> None:
        await self._insist("leave", worker)
        self._workers.drop(worker)

    async def claim(self, worker: str, model: str, slots: int) -> list[Claim]:
        if (known := self._workers.find(worker)) is None:
            return []
        known.news.looked(model)
        nonce = secrets.token_hex(8)
        claims = [_to_claim(found) for found in await self._insist("claim", worker, model, slots, nonce)]
        known.held.update((claim.request.id, claim.epoch) for claim in claims)
        return claims

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        results = [AppendResult(AppendOutcome.OK)] * len(entries)
        pending = list(enumerate(entries))
        while pending:
            replies = await self._insist("append", *(part for _, entry in pending for part in _append_parts(entry)))
            again: list[tuple[int, AppendEntry]] = []
            for position, (index, entry) in enumerate(pending):
                code, detail = replies[2 * position], replies[2 * position + 1]
                if code == _HAVE:
                    if (rest := _after(entry, detail)) is not None:
                        again.append((index, rest))
                    continue
                results[index] = AppendResult(_OUTCOMES[code], detail)
                if results[index].outcome in _OVER or (code == 0 and entry.end is not None):
                    self._workers.let_go(entry.request_id, entry.epoch)
            pending = again
        return results

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        parts = (request_id, epoch, "", 0, b"", codec.encode_end(end))
        code, detail = await self._insist("append", *parts)
        self._workers.let_go(request_id, epoch)
        return AppendResult(_OUTCOMES[code], detail)

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        code = await self._insist("release", request_id, epoch, how.value, codec.as_text(cause))
        self._workers.let_go(request_id, epoch)
        return AppendResult(_OUTCOMES[code])

    async def wait_work(self, worker: str, model: str) -> None:
        known = self._workers.find(worker)
        with trio.move_on_after(self._redis.look_every_s):
            if known is None:
                await trio.sleep_forever()
            else:
                await known.news.wait(model)

    # For anyone.

    async def reap(self) -> int:
        return int(await self._insist("reap"))

    async def dead_letters(self) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        for _, flat in await self._ask("dead_letters"):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            request, cause = codec.decode_request(fields[b"body"]), fields[b"cause"].decode("utf-8", "replace")
            letters.append(DeadLetter(request, int(fields[b"attempt"]), cause, int(fields[b"at"])))
        return letters

    async def statistics(self) -> LedgerStatistics:
        """Of the whole ledger, whoever asks."""
        flat = await self._ask("stats")
        found = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        return LedgerStatistics(**{field.name: found.get(field.name, 0) for field in attrs.fields(LedgerStatistics)})

    # Calls.

    async def _call(self, operation: str, *parts: bytes | str | int) -> Any:
        now = "" if self._clock_ms is None else self._clock_ms()
        call = ("FCALL", function_name(operation), 1, self.prefix, now, self._packed, *parts)
        try:
            return await self.link.call(*call)
        except NoSuchFunction:
            # Somebody has flushed the functions. It was not executed.
            await load_library(self.link.call)
            return await self.link.call(*call)

    async def _ask(self, operation: str, *parts: bytes | str | int) -> Any:
        """For as long as a client may wait. Raises `Unavailable`."""
        with trio.move_on_after(self._redis.patience_s):
            return await self._insist(operation, *parts, gives_up_on=OutOfMemory)
        raise Unavailable("the ledger is away", retry_after_s=1.0)

    async def _insist(
        self, operation: str, *parts: bytes | str | int, gives_up_on: type[Exception] | tuple[()] = ()
    ) -> Any:
        """Until it is done. All operations may be done twice, so what became of a lost one does not matter."""
        while True:
            try:
                return await self._call(operation, *parts)
            except gives_up_on as error:
                raise Unavailable("the ledger has no memory left; try again later", retry_after_s=5.0) from error
            except Unavailable:
                await trio.sleep(0.02)
                await self.link.wait_up()

    def _known(self, reply: list[Any]) -> list[Any]:
        kind, *found = reply
        if kind == b"known":
            return found
        raise Expired if kind == b"gone" else NotFound("there is no such stream")

    async def _extend(
        self, request_id: str, epoch: int, count: int, tokens: Sequence[TokenDelta], *, hand_back: bool
    ) -> bool:
        """False where the log has changed since it was read."""
        more = codec.encode_tokens(tokens[count:])
        parts = (request_id, epoch, count, len(tokens) - count, more, int(hand_back))
        kind, *done = await self._ask("extend", *parts)
        return bool(kind == b"known" and done[0])

    # What Redis says by itself.

    async def _on_connect(self, call: Call) -> None:
        await load_library(call)
        await call("SUBSCRIBE", self._inbox, self._wake_channel)
        self._mirrors.doubt_all()
        self._workers.tell_all()
        self._wake_keeper.set()

    def _on_push(self, frame: list[Any]) -> None:
        if frame[0] != b"message":
            return
        _, channel, payload = frame
        if channel.endswith(b":wake"):
            self._workers.tell_work(payload.decode())
        elif payload[:1] == b"s":
            if (worker := self._workers.find(payload[1:].decode())) is not None:
                worker.news.tell_stop()
        elif self._mirrors.hear(payload):
            self._wake_keeper.set()

    # Copies of logs.

    async def _open_mirror(self, request_id: str) -> Mirror:
        mirror = self._mirrors.open(request_id)
        mirror.opening = trio.Event()
        try:
            # Pushes of what is written after this was answered may come before the answer is looked at.
            [reply] = await self._ask("tail", self._inbox, request_id, 0)
            _, epoch, _, _, chunks = self._known(reply)
            mirror.hear(epoch, 1, *_join(chunks))
            mirror.behind = False
        except BaseException:
            self._forget(mirror)
            raise
        finally:
            mirror.opening.set()
        return mirror

    def _reader_changed(self, mirror: Mirror) -> None:
        if not mirror.readers:
            self._forget(mirror)

    def _forget(self, mirror: Mirror) -> None:
        self._mirrors.drop(mirror)
        if mirror.end is None:
            self._unfollowed.append(mirror.request_id)
            self._wake_keeper.set()

    async def sync(self) -> None:
        """Reads whatever was not heard of for a while; renews this gateway's lease; says what is not read any more."""
        async with self._syncing:
            await self._unfollow()
            late = self._late_mirrors()
            while True:
                some, late = late[:_READ_AT_ONCE], late[_READ_AT_ONCE:]
                asked = [_Asked.of(mirror) for mirror in some]
                parts = [part for each in asked for part in (each.mirror.request_id, each.after)]
                replies = await self._insist("tail", self._inbox, *parts)
                for each, reply in zip(asked, replies, strict=True):
                    await self._mend(each, reply)
                if not late:
                    return

    async def _unfollow(self) -> None:
        while self._unfollowed:
            ids, self._unfollowed = self._unfollowed[:_READ_AT_ONCE], self._unfollowed[_READ_AT_ONCE:]
            gone = [each for each in ids if self._mirrors.get(each) is None]
            await self._insist("unfollow", self._inbox, *gone)

    def forget_unread(self, since_s: float) -> None:
        """Drops copies that nobody opened in `since_s` seconds: whoever had the request admitted never came to read."""
        for mirror in self._mirrors:
            if not mirror.readers and mirror.heard_at + since_s <= trio.current_time():
                self._forget(mirror)

    def _late_mirrors(self) -> list[Mirror]:
        late: list[Mirror] = []
        now = trio.current_time()
        for mirror in self._mirrors:
            if mirror.end is not None or (mirror.opening is not None and not mirror.opening.is_set()):
                continue
            silent = mirror.heard_at + self._redis.silence_s <= now
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
            tokens, end = _join(chunks)
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
                if not await self._extend(mirror.request_id, epoch, count, mirror.tokens, hand_back=hand_back):
                    self._doubt(mirror)

    def _doubt(self, mirror: Mirror) -> None:
        mirror.doubtful = True
        self._wake_keeper.set()

    async def _restore(self, mirror: Mirror) -> None:
        """Redis forgot a request that it had accepted."""
        request = mirror.request
        if request is None:
            mirror.close(LOST)
            return
        log.warning("request restored", request_id=request.id, tokens=len(mirror.tokens))
        body, tokens = codec.encode_request(request), codec.encode_tokens(mirror.tokens)
        parts = (request.id, body, self._inbox, *_fields(request), len(mirror.tokens), tokens)
        await self._insist("restore", *parts)

    async def _keep_reading(self) -> None:
        while True:
            with trio.move_on_after(self._redis.silence_s / 2):
                await self._wake_keeper.wait()
            self._wake_keeper = trio.Event()
            self.forget_unread(self._redis.silence_s)
            await self.sync()


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


def _check_seq(after: int) -> None:
    if after < 0:
        raise ValueError(f"seq counts from 1, so nothing is after {after}")


def _fields(request: GenerateRequest) -> tuple[str | int, ...]:
    """What the functions look at: model, tenant, class, cost, bytes, deadline, grace."""
    size = size_bytes(request)
    cost = repr(float(ticket_for(request, size).cost))
    deadline = "" if request.deadline_ms is None else request.deadline_ms
    return request.model, request.tenant, request.priority, cost, size, deadline, request.resume_grace_ms


def _append_parts(entry: AppendEntry) -> tuple[str | int | bytes, ...]:
    if entry.first_seq < 1:
        raise ValueError(f"seq counts from 1, not from {entry.first_seq}")
    tokens = codec.encode_tokens(entry.deltas) if entry.deltas else b""
    end = b"" if entry.end is None else codec.encode_end(entry.end)
    return entry.request_id, entry.epoch, entry.first_seq, len(entry.deltas), tokens, end


def _after(entry: AppendEntry, count: int) -> AppendEntry | None:
    """What of an entry is not in the log yet, which has `count` tokens."""
    rest = entry.deltas[count + 1 - entry.first_seq :]
    if not rest and entry.end is None:
        return None
    return attrs.evolve(entry, first_seq=count + 1, deltas=rest)


def _join(chunks: list[Any]) -> tuple[list[TokenDelta], Terminal | None]:
    """The tokens of some entries of a log, and the terminal event."""
    tokens: list[TokenDelta] = []
    end = None
    for kind, blob in zip(chunks[1::3], chunks[2::3], strict=True):
        if kind == b"e":
            end = codec.decode_end(blob)
        else:
            tokens += codec.decode_tokens(blob)
    return tokens, end


def _to_claim(found: list[Any]) -> Claim:
    body, epoch, attempt, quarantined, waited_ms, _, chunks = found
    tokens, _ = _join(chunks)
    return Claim(codec.decode_request(body), epoch, attempt, bool(quarantined), tuple(tokens), waited_ms / 1000)
