"""Compares a ledger with the ledger in memory: both get the same calls and must give the same answers."""

# ruff: noqa: S101

import contextlib
from collections.abc import Sequence
from typing import Self

import attrs
import msgspec

from llmactors.errors import Expired, NotFound
from llmactors.ledger import (
    AdmitResult,
    AppendEntry,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    DeadRequest,
    Follower,
    Ledger,
    LedgerStatistics,
    LogSlice,
    MemoryLedger,
    ReleaseHow,
    RepairOutcome,
    RequestInfo,
    SubmitOutcome,
)
from llmactors.messages import GenerateRequest, Terminal, TokenDelta

_UNKNOWN_EPOCH = 1_000_000


class SideBySide:
    """A `Ledger` whose operations run on `ledger` and on `memory`, and assert that both answers are equal.

    The two ledgers number epochs differently, so each gets its own epoch of a claim. Readers follow `ledger`, and are
    counted in `memory` too.
    """

    def __init__(self, ledger: Ledger, memory: MemoryLedger) -> None:
        self.ledger = ledger
        self.memory = memory
        self._epochs: dict[tuple[str, int], int] = {}

    async def submit(self, request: GenerateRequest) -> SubmitOutcome:
        outcome = await self.ledger.submit(request)
        assert await self.memory.submit(request) is outcome
        return outcome

    async def admit(self, candidates: Sequence[Candidate]) -> AdmitResult:
        verdict = await self.ledger.admit(candidates)
        expected = await self.memory.admit(candidates)
        assert verdict == expected, f"{verdict} instead of {expected}"
        return verdict

    async def claim(self, worker: str, model: str, slots: int) -> list[Claim]:
        claims = await self.ledger.claim(worker, model, slots)
        expected = await self.memory.claim(worker, model, slots)
        for claim, other in zip(claims, expected, strict=False):
            self._epochs[claim.request.id, claim.epoch] = other.epoch
        assert [attrs.evolve(each, epoch=0, waited_s=round(each.waited_s, 3)) for each in claims] == [
            attrs.evolve(each, epoch=0, waited_s=round(each.waited_s, 3)) for each in expected
        ]
        return claims

    async def append(self, entries: Sequence[AppendEntry]) -> list[AppendResult]:
        results = await self.ledger.append(entries)
        translated = [msgspec.structs.replace(each, epoch=self._epoch(each.request_id, each.epoch)) for each in entries]
        assert await self.memory.append(translated) == results
        return results

    async def finish(self, request_id: str, epoch: int, end: Terminal) -> AppendResult:
        result = await self.ledger.finish(request_id, epoch, end)
        assert await self.memory.finish(request_id, self._epoch(request_id, epoch), end) == result
        return result

    async def release(self, request_id: str, epoch: int, how: ReleaseHow, cause: str = "") -> AppendResult:
        result = await self.ledger.release(request_id, epoch, how, cause)
        assert await self.memory.release(request_id, self._epoch(request_id, epoch), how, cause) == result
        return result

    async def beat(self, worker: str) -> BeatResult:
        result, expected = await self.ledger.beat(worker), await self.memory.beat(worker)
        translated = {(request_id, self._epoch(request_id, epoch)) for request_id, epoch in result.stop}
        assert (result.live, translated) == (expected.live, set(expected.stop))
        return result

    async def leave(self, worker: str) -> None:
        await self.ledger.leave(worker)
        await self.memory.leave(worker)

    async def reap(self) -> int:
        touched = await self.ledger.reap()
        expected = await self.memory.reap()
        assert expected == touched, f"{touched} touched instead of {expected}"
        return touched

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        found, expected = await self.ledger.expected_wait_s(request), await self.memory.expected_wait_s(request)
        assert abs(found - expected) <= 0.002  # one of the two ledgers rounds to milliseconds
        return found

    async def info(self, request_id: str) -> RequestInfo:
        try:
            expected = await self.memory.info(request_id)
        except (Expired, NotFound) as error:
            with contextlib.suppress(type(error)):
                await self.ledger.info(request_id)
                raise AssertionError(f"the ledger knows {request_id}, but memory raises {error!r}") from error
            raise
        info = await self.ledger.info(request_id)
        assert attrs.evolve(info, epoch=self._epoch(request_id, info.epoch)) == expected
        return info

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        found, expected = await self.ledger.read(request_id, after), await self.memory.read(request_id, after)
        assert (found.first_seq, list(found.deltas)) == (expected.first_seq, list(expected.deltas))
        assert found.end == expected.end
        return found

    async def follow(self, request_id: str, after: int = 0) -> Follower:
        follower = await self.ledger.follow(request_id, after)
        return _CountedFollower(follower, await self.memory.follow(request_id, after))

    async def cancel(self, request_id: str) -> bool:
        was_running = await self.ledger.cancel(request_id)
        assert await self.memory.cancel(request_id) is was_running
        return was_running

    async def watch(self, request_id: str, ttl_ms: int) -> None:
        await self.ledger.watch(request_id, ttl_ms)
        await self.memory.watch(request_id, ttl_ms)

    async def repair(self, request_id: str, epoch: int, digest: bytes, tokens: Sequence[TokenDelta]) -> RepairOutcome:
        outcome = await self.ledger.repair(request_id, epoch, digest, tokens)
        own = self._epoch(request_id, epoch)
        assert await self.memory.repair(request_id, own, digest, tokens) is outcome
        return outcome

    async def wait_work(self, worker: str, model: str) -> None:
        await self.ledger.wait_work(worker, model)

    async def dead_letters(self) -> list[DeadRequest]:
        letters = await self.ledger.dead_letters()
        assert letters == await self.memory.dead_letters()
        return letters

    async def statistics(self) -> LedgerStatistics:
        found, expected = await self.ledger.statistics(), await self.memory.statistics()
        assert found == expected
        return found

    def _epoch(self, request_id: str, epoch: int) -> int:
        return 0 if epoch == 0 else self._epochs.get((request_id, epoch), _UNKNOWN_EPOCH)


class _CountedFollower:
    """A follower of one ledger, which keeps a follower of the other ledger open meanwhile."""

    def __init__(self, follower: Follower, counted: Follower) -> None:
        self._follower = follower
        self._counted = counted
        self.take = follower.take
        self.listen = follower.listen
        self.wait_more = follower.wait_more
        self.wait_end = follower.wait_end

    @property
    def cursor(self) -> int:
        return self._follower.cursor

    def __enter__(self) -> Self:
        self._follower.__enter__()
        self._counted.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._follower.__exit__(*exc)
        self._counted.__exit__(*exc)
