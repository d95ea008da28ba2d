"""A `Ledger` over Redis, for any number of gateways and workers in any number of processes.

Every operation is one call of a function in Redis. A call whose reply was lost is repeated: for a gateway until
`call_timeout_s` has passed, and then the operation raises `errors.Unavailable`; for a worker until the call succeeds,
since a worker keeps its requests while Redis is away.
"""

import contextlib
import math
import operator
import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
import structlog
import trio

from llmactors.ledger.core.usage_spans import Cell, report, spans_of
from llmactors.ledger.follower import LogFollower
from llmactors.ledger.inspection import (
    OPEN_REQUESTS_SEEN,
    OPEN_REQUESTS_SHOWN,
    QUEUE_SHARES_SEEN,
    QueueShare,
    RequestFilter,
    RequestTimes,
    RequestView,
    RequestViews,
    oldest_first,
)
from llmactors.ledger.redis import codec
from llmactors.ledger.redis.functions import LedgerFunctions, expect_known
from llmactors.ledger.redis.handed_out import to_handed_out
from llmactors.ledger.redis.library import load_library
from llmactors.ledger.redis.log_reader import LogReader
from llmactors.ledger.redis.losses import RedisLoss, RedisLosses
from llmactors.ledger.redis.request_views import to_open_request, to_queue_shares, to_request_times, to_state
from llmactors.ledger.redis.settings import RedisLedgerSettings
from llmactors.ledger.redis.shard_mark import check_shard
from llmactors.ledger.redis.workers import Workers
from llmactors.ledger.redis.wrong_keys import WrongKeys
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.usage import RECORDS_MAX, UsageBy, UsagePage, UsageReport, UsageTotal, not_a_cursor
from llmactors.ledger.values import (
    AdmitResult,
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    DeadRequest,
    LedgerStatistics,
    LogSlice,
    ModelDemand,
    News,
    Preemption,
    QueueDepth,
    QueuePlace,
    QueueView,
    ReleaseHow,
    RequestInfo,
    SlotOffer,
    SubmitOutcome,
    no_such_dead_letter,
)
from llmactors.limiter.charges import Charge, Standing, add_up
from llmactors.messages import GenerateRequest, Terminal
from llmactors.redislink.call import Call
from llmactors.redislink.errors import OutOfMemory
from llmactors.redislink.link import RedisLink
from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.redislink.settings import LinkSettings

log = structlog.get_logger("llmactors.ledger")

_OUTCOMES = (
    AppendOutcome.OK,
    AppendOutcome.FENCED,
    AppendOutcome.STOP,
    AppendOutcome.GAP,
    AppendOutcome.GONE,
)
"""The outcomes by the codes of the functions."""
_OVERLAP = 5
"""One more code: the entry starts inside the log, whose length is the detail."""
_WRONG_TYPE = 6
_WRONG_TYPE_S = 3.0
"""How long an append is repeated whose log has another type. Then its request ends."""
_OK = AppendResult(AppendOutcome.OK)
_CLAIM_OVER = (AppendOutcome.FENCED, AppendOutcome.STOP, AppendOutcome.GONE)
"""Outcomes after which the worker holds the request no longer."""
_Pending = list[tuple[int, AppendEntry]]
"""Entries with their places in a call."""
_PLACE = operator.itemgetter(0)
_ENTRY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_SPANS_AT_ONCE = 24
"""How many hours or days one call reads the sums of."""
_CHARGES_AT_ONCE = 256
"""How many limits one call looks at."""
LEDGER_LINK = LinkSettings(backoff_max_s=0.2)
"""Short pauses, so that after a restart of Redis every worker is connected again within `disconnect_grace_s`."""


class RedisLedger:
    """The ledger of one process. Run `run` as a task; the operations wait until it has a connection.

    `shard` is the number of this ledger among so many shards of a whole ledger.
    `clock_ms` is a test's clock: the time since 1970, in milliseconds; with None the functions use the server's clock.
    """

    def __init__(
        self,
        url: str,
        settings: LedgerSettings | None = None,
        redis_settings: RedisLedgerSettings | None = None,
        *,
        link_settings: LinkSettings | None = None,
        name: str = "llmactors",
        shard: tuple[int, int] = (0, 1),
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.settings = settings or LedgerSettings()
        self._redis = redis_settings or RedisLedgerSettings()
        self.names = RedisNames(self._redis.namespace)
        self._inbox = self.names.ledger(LedgerKey.INBOX, secrets.token_hex(8))
        self._wake_channel = self.names.ledger(LedgerKey.WAKE)
        self.link = RedisLink(
            url,
            link_settings or LEDGER_LINK,
            name=name,
            tag=self._redis.namespace,
            on_push=self._on_push,
            on_connect=self._on_connect,
        )
        packed = codec.encode_settings(self.settings, self._redis)
        timeout_s = self._redis.call_timeout_s
        self._functions = LedgerFunctions(self.link, self.names.ledger_prefix, packed, timeout_s, clock_ms)
        self._wrong_keys = WrongKeys()
        self.losses = RedisLosses()
        self.log_reader = LogReader(
            self._functions,
            self._wrong_keys,
            self.losses,
            self._inbox,
            silence_s=self._redis.silence_s,
            unread_copy_s=self._redis.unread_copy_s,
            still_read_s=min(self._redis.still_read_s, self.settings.retention_s / 3),
        )
        self._workers = Workers()
        self._due_at = math.inf
        """When the last `reap` has foreseen that something is due, on Trio's clock."""
        self._shard = shard

    def __repr__(self) -> str:
        return f"<RedisLedger {self.names.ledger_prefix} {self.link!r} {self.log_reader!r}>"

    @property
    def is_up(self) -> bool:
        """Whether Redis can be asked now, as far as this process knows."""
        return self.link.is_up

    async def wait_up(self) -> None:
        """Returns once there is a connection to Redis."""
        await self.link.wait_up()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled, through any outage. Raises what prevents the first connection."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.link.run)
            nursery.start_soon(self.log_reader.run)
            task_status.started()

    # For gateways.

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        return (await self.admit([Candidate(request)])).outcome

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        parts = [part for candidate in candidates for part in codec.candidate_parts(candidate)]
        # The copies begin before the first token, so that the gateway that admits a request need not read its log.
        copies = self.log_reader.copies
        new = [
            copies.open(candidate.request.id, candidate)
            for candidate in candidates
            if copies.get(candidate.request.id) is None
        ]
        opening = trio.Event()
        for copy in new:
            copy.opening = opening
        accepted = False
        try:
            reply = await self._functions.call_with_timeout("submit", self._inbox, *parts)
            result = codec.to_admit_result(reply, candidates)
            accepted = result.outcome is SubmitOutcome.ACCEPTED
        finally:
            if not accepted:
                # The requests were refused, or another gateway admitted them and their logs have entries already.
                for copy in new:
                    self.log_reader.forget(copy)
            opening.set()
        return result

    async def now_ms(self) -> int:
        return int(await self._functions.call_with_timeout("now"))

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        queue = request.model, request.tenant, request.priority
        return int(await self._functions.call_with_timeout("expected_wait", *queue)) / 1000

    async def places(self, request_ids: Sequence[str]) -> list[QueuePlace | None]:
        if not request_ids:
            return []
        found = await self._functions.call_with_timeout("places", *request_ids)
        return [
            QueuePlace(model.decode(), place, None if wait_ms < 0 else wait_ms / 1000) if place else None
            for model, place, wait_ms in found
        ]

    async def info(self, request_id: str) -> RequestInfo:
        reply = await self._functions.call_with_timeout("info", request_id)
        body, state, epoch, attempt, last_seq, notes = expect_known(reply)
        request, claims = codec.decode_request(body), codec.to_claim_notes(notes)
        return RequestInfo(request, to_state(state), epoch, attempt, last_seq, claims)

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        _check_seq(after)
        reply = await self._functions.call_with_timeout("read", request_id, after)
        _, _, _, count, chunks = expect_known(reply)
        tokens, end = codec.join(chunks)
        if end is not None:
            after = min(after, count)
        return LogSlice(after + 1, tokens[len(tokens) - (count - after) :] if count > after else (), end)

    async def follow(self, request_id: str, after: int = 0) -> LogFollower:
        _check_seq(after)
        copy = self.log_reader.copies.get(request_id)
        if copy is None:
            copy = await self.log_reader.open(request_id)
        elif copy.opening is not None and not copy.opening.is_set():
            await copy.opening.wait()
            return await self.follow(request_id, after)
        copy.used_at = trio.current_time()
        return LogFollower(copy, after, lambda: self.log_reader.readers_changed(copy))

    async def cancel(self, request_id: str) -> bool:
        [was_alive] = expect_known(await self._functions.call_with_timeout("cancel", request_id))
        return bool(was_alive)

    async def forget(self, request_id: str) -> None:
        expect_known(await self._functions.call_with_timeout("forget", request_id))

    # For workers.

    async def beat(self, worker: str) -> BeatResult:
        live, stops, held = await self._functions.call_until_done("beat", worker, self._inbox)
        if not live:
            self._workers.drop(worker)
            return BeatResult(live=False)
        self._workers.get(worker).changes.clear_stop()
        stop = [(request_id, int(epoch)) for request_id, _, epoch in (item.decode().rpartition(" ") for item in stops)]
        for request_id, epoch in stop:  # the worker drops these without another call
            self._workers.let_go(request_id, epoch)
        found = {(request_id.decode(), epoch) for request_id, epoch in zip(held[::2], held[1::2], strict=True)}
        for request_id, epoch in self._workers.get(worker).unaccounted(found):
            # The reply with the claim was lost, or Redis forgot that the claim was over: nobody would finish it.
            log.warning("a claim that its worker does not know was released", request_id=request_id, worker=worker)
            await self.release(request_id, epoch, ReleaseHow.SILENT)
        return BeatResult(live=True, stop=tuple(stop))

    async def leave(self, worker: str) -> None:
        await self._functions.call_until_done("leave", worker)
        self._workers.drop(worker)

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        if (known := self._workers.find(worker)) is None:
            return []
        known.changes.clear_work(model)
        newest = known.newest
        parts = worker, model, slots, secrets.token_hex(8), hand_out, newest
        still_open, newest_there, *found = await self._functions.call_until_done("claim", *parts)
        self._wrong_keys.report(each for each in found if isinstance(each, bytes))
        claims = [codec.to_claim(each) for each in found if isinstance(each, list)]
        if found and isinstance(found[-1], int):
            known.changes.look_again(found[-1] / 1000)
        return known.answer(model, newest, claims, newest_there, is_open=still_open > 0)

    def handed(self, worker: str, model: str) -> list[Claim]:
        return [] if (known := self._workers.find(worker)) is None else known.take_handed(model)

    def has_open_slots(self, worker: str, model: str) -> bool:
        return (known := self._workers.find(worker)) is not None and known.has_open_slots(model)

    async def preempt(self, worker: str, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        if (known := self._workers.find(worker)) is None or not offered:
            return None
        parts = worker, model, secrets.token_hex(8), codec.encode_offers(offered)
        reply = await self._functions.call_until_done("preempt", *parts)
        if not reply:
            return None
        given_up = next((each.request_id, each.epoch) for each in offered if each.request_id == reply[0].decode())
        order, claim = codec.to_claim(reply[1])
        self._workers.let_go(*given_up)
        known.add([(order, claim)], [])
        return Preemption(given_up, claim)

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        results = [_OK] * len(entries)
        pending = list(enumerate(entries))
        wrong: _Pending = []
        ends_at = math.inf
        while pending:
            pending, again = _each_request_once(pending)
            worker = self._workers.holder_of(pending[0][1].request_id, pending[0][1].epoch)
            parts = codec.append_parts(entry for _, entry in pending)
            # The reply names only the entries that are not simply OK.
            told = await self._functions.call_until_done("append", worker, *parts)
            for place, code, detail in zip(told[::3], told[1::3], told[2::3], strict=True):
                index, entry = pending[place]
                if code == _WRONG_TYPE:
                    wrong.append((index, entry))
                elif code != _OVERLAP:
                    results[index] = AppendResult(_OUTCOMES[code], detail)
                elif (rest := _after(entry, detail)) is not None:
                    again.append((index, rest))
            pending = sorted(again, key=_PLACE)
            if wrong and not pending:
                ends_at = min(ends_at, trio.current_time() + _WRONG_TYPE_S)
                if trio.current_time() < ends_at:
                    await trio.sleep(_WRONG_TYPE_S / 20)
                else:
                    ids = {entry.request_id for _, entry in wrong}
                    self._wrong_keys.report(await self._functions.call_until_done("abandon_wrong", *ids))
                pending, wrong = wrong, []
        self._settle(entries, results)
        return results

    def _settle(self, entries: Sequence[AppendEntry], results: Sequence[AppendResult]) -> None:
        """Forgets the claims that are over, and notes what Redis has lost."""
        for entry, result in zip(entries, results, strict=True):
            if entry.end is not None if result is _OK else result.outcome in _CLAIM_OVER:
                self._workers.let_go(entry.request_id, entry.epoch)
            elif result is not _OK and result.outcome is AppendOutcome.GAP:
                # Everything before this entry was acknowledged. The worker sends it again.
                self.losses.note(RedisLoss.EXTENDED, entry.request_id, tokens=entry.first_seq - result.next_seq)

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        parts = codec.finish_parts(request_id, epoch, end)
        told = await self._functions.call_until_done("append", "", *parts)
        self._workers.let_go(request_id, epoch)
        return AppendResult(_OUTCOMES[told[1]], told[2]) if told else _OK

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        parts = request_id, epoch, how.value, codec.as_text(cause)
        code = await self._functions.call_until_done("release", *parts)
        if (holder := self._workers.find(self._workers.holder_of(request_id, epoch))) is not None:
            holder.close_slots()
        self._workers.let_go(request_id, epoch)
        return AppendResult(_OUTCOMES[code])

    async def wait_work(self, worker: str, model: str) -> News:
        known = self._workers.find(worker)
        with trio.move_on_after(self._redis.look_for_work_s):
            if known is None:
                await trio.sleep_forever()
            else:
                return await known.changes.wait(model)
        return News(0)

    # For any node.

    @property
    def due_in_s(self) -> float:
        return self._due_at - trio.current_time()

    async def reap(self) -> int:
        touched, due_ms, *wrong = await self._functions.call_until_done("reap")
        self._due_at = math.inf if due_ms < 0 else trio.current_time() + due_ms / 1000
        self._wrong_keys.report(wrong)
        return int(touched)

    async def take_new_dead_letters(self) -> list[DeadRequest]:
        return [codec.to_dead_request(flat) for _, flat in await self._functions.call("take_new_dead_letters")]

    async def statistics(self) -> LedgerStatistics:
        flat = await self._functions.call_with_timeout("stats")
        found = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        names = attrs.fields_dict(LedgerStatistics)
        return LedgerStatistics(**{name: int(found.get(name, 0)) for name in names})

    async def probe(self) -> None:
        """Returns if Redis would admit new requests now. Changes nothing. Raises as `RedisLink.call`; never retries."""
        await self._functions.call("probe")

    async def demand(self, models: Sequence[str]) -> list[ModelDemand]:
        found = await self._functions.call_with_timeout("demand", *models)
        return sorted(
            ModelDemand(model.decode(), int(class_), count, oldest_ms / 1000)
            for model, class_, count, oldest_ms in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True)
        )

    async def queue_view(self, worker: str, model: str) -> QueueView:
        """As `ShardLedger.queue_view`, for a ledger that is one of several shards."""
        classes, claimers = await self._functions.call_with_timeout("queue_view", worker, model)
        urgency = [*map(int, classes[::3])]
        served = dict(zip(urgency, map(float, classes[2::3]), strict=True))
        waiting = dict(zip(urgency, classes[1::3], strict=True))
        return QueueView(waiting, served, [each.decode() for each in claimers])

    # For operators.

    async def queue_depths(self) -> list[QueueDepth]:
        # A flow may come twice while keys are added or deleted, so that the last length of each flow counts.
        lengths: dict[bytes, tuple[str, int, int]] = {}
        cursor = b"0"
        while True:
            cursor, *found = await self._functions.call_with_timeout("queue_depths", cursor)
            for flow, model, class_, length in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True):
                lengths[flow] = model.decode(), int(class_), length
            if cursor == b"0":
                break
        waiting: Counter[tuple[str, int]] = Counter()
        for model, class_, length in lengths.values():
            waiting[model, class_] += length
        return sorted(QueueDepth(model, class_, count) for (model, class_), count in waiting.items())

    async def open_requests(self, wanted: RequestFilter, limit: int) -> RequestViews:
        limit = min(limit, OPEN_REQUESTS_SHOWN)
        filters = (wanted.state or "")[:1], wanted.tenant or "", wanted.model or ""
        shown: dict[str, RequestView] = {}
        seen = total = 0
        while seen < OPEN_REQUESTS_SEEN:
            reply = await self._functions.call_with_timeout("open_requests", seen, limit - len(shown), *filters)
            now, count, looked, fitting, *found = reply
            views = (to_open_request(each, int(now)) for each in found)
            shown.update((view.id, view) for view in views)  # a request may come twice where an older one has ended
            seen, total = seen + looked, total + fitting
            if not any(filters) and len(shown) >= limit:
                total = min(count, OPEN_REQUESTS_SEEN)
                break
            if seen >= count or not looked:
                break
        return RequestViews(tuple(shown.values()), total)

    async def request_times(self, request_id: str) -> RequestTimes:
        return to_request_times(expect_known(await self._functions.call_with_timeout("request_times", request_id)))

    async def queue_shares(self, models: Sequence[str]) -> list[QueueShare]:
        shares: dict[tuple[str, int, str], QueueShare] = {}
        for model in models:
            seen = 0
            while len(shares) < QUEUE_SHARES_SEEN:
                reply = await self._functions.call_with_timeout("queue_shares", model, seen)
                found = to_queue_shares(model, reply)
                shares.update((each.key, each) for each in found)
                seen += reply[1]
                if not reply[1]:
                    break
        return oldest_first(shares.values())

    async def standings(self, charges: Sequence[Charge]) -> list[Standing]:
        found: list[Standing] = []
        together = add_up(charges)
        for first in range(0, len(together), _CHARGES_AT_ONCE):
            some = together[first : first + _CHARGES_AT_ONCE]
            reply = await self._functions.call_with_timeout("standings", codec.encode_charge_list(some))
            found += codec.to_standings(reply, some)
        return found

    async def dead_letters(self) -> list[DeadRequest]:
        return [letter for _, letter in await self._dead_letters()]

    async def requeue(self, request_id: str, new_id: str) -> SubmitOutcome:
        for entry, letter in await self._dead_letters(request_id):
            again = Candidate(letter.resubmission(new_id))
            parts = (new_id, codec.encode_request(again.request), *codec.fields_of(again))
            outcome = await self._functions.call_with_timeout("requeue", entry, *parts)
            if outcome != b"unknown":
                return SubmitOutcome(outcome.decode())
        kind, *_ = await self._functions.call_with_timeout("info", new_id)
        if kind == b"unknown":
            raise no_such_dead_letter(request_id)
        return SubmitOutcome.DUPLICATE

    async def purge(self, request_id: str | None = None) -> int:
        entries = [entry for entry, _ in await self._dead_letters(request_id)]
        return int(await self._functions.call_with_timeout("purge", *entries)) if entries else 0

    async def usage_records(self, since_ms: int, until_ms: int, after: str = "", limit: int = RECORDS_MAX) -> UsagePage:
        if after and not _ENTRY.fullmatch(after):
            raise not_a_cursor(after)
        begin = f"({after}" if after else max(since_ms, 0)
        # One more than asked for, which tells whether there is a next page.
        found = await self._functions.call_with_timeout("usage_records", begin, max(until_ms, 1), limit + 1)
        records = tuple(codec.to_usage_record(*each) for each in found[:limit])
        return UsagePage(records, found[limit - 1][0].decode() if len(found) > limit else "")

    async def usage_report(self, since_ms: int, until_ms: int, by: UsageBy) -> UsageReport:
        spans = spans_of(since_ms, until_ms, by, await self.now_ms(), self.settings)
        sums: list[list[tuple[Cell, UsageTotal]]] = []
        for begin in range(0, len(spans), _SPANS_AT_ONCE):
            asked = [
                part for span in spans[begin : begin + _SPANS_AT_ONCE] for part in (span.kind.value, span.start_ms)
            ]
            sums += map(codec.to_usage_sums, await self._functions.call_with_timeout("usage_sums", *asked))
        return report(list(zip(spans, sums, strict=True)), by, until_ms)

    async def _dead_letters(self, request_id: str | None = None) -> list[tuple[bytes, DeadRequest]]:
        """The dead letters with the ids of their stream entries; of one request, or all of them for None."""
        reply = await self._functions.call_with_timeout("dead_letters")
        found = [(entry, codec.to_dead_request(flat)) for entry, flat in reply]
        return [(entry, letter) for entry, letter in found if request_id in {None, letter.request.id}]

    # Connections and pushes.

    async def _on_connect(self, call: Call) -> None:
        await check_shard(call, self.names, *self._shard)
        # A full server refuses the library also where it has it. A call loads it later where it is missing.
        with contextlib.suppress(OutOfMemory):
            await load_library(call)
        await call("SUBSCRIBE", self._inbox, self._wake_channel)
        self.log_reader.compare_all()
        self._workers.notify_all()

    def _on_push(self, frame: list[Any]) -> None:
        if frame[0] != b"message":
            return
        _, channel, payload = frame
        if channel == self._wake_channel.encode():
            self._workers.notify_work(payload.decode())
        elif payload[:1] == b"s":
            if (worker := self._workers.find(payload[1:].decode())) is not None:
                worker.changes.notify_stop()
        elif payload[:1] == b"h":
            worker_id, model, still_open, claims = to_handed_out(payload)
            if (worker := self._workers.find(worker_id)) is not None:
                worker.hear(model, claims, still_open)
        else:
            self.log_reader.apply_push(payload)


def _each_request_once(pending: _Pending) -> tuple[_Pending, _Pending]:
    """The first entry of each request, and all others."""
    if len({entry.request_id for _, entry in pending}) == len(pending):
        return pending, []
    first: dict[str, tuple[int, AppendEntry]] = {}
    for item in pending:
        first.setdefault(item[1].request_id, item)
    return [*first.values()], [item for item in pending if first[item[1].request_id] is not item]


def _check_seq(after: int) -> None:
    if after < 0:
        raise ValueError(f"seq counts from 1, so nothing is after {after}")


def _after(entry: AppendEntry, count: int) -> AppendEntry | None:
    """The part of an entry after the first `count` tokens of the log; None if the entry is in the log already."""
    rest = entry.deltas[count + 1 - entry.first_seq :]
    if not rest and entry.end is None:
        return None
    return msgspec.structs.replace(entry, first_seq=count + 1, deltas=rest)
