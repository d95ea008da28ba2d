"""Compares a ledger with the ledger in memory: both get the same calls and must give the same answers."""

# ruff: noqa: S101

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, cast

import attrs
import msgspec

from llmactors.errors import LlmactorsError
from llmactors.ledger import (
    AppendEntry,
    AppendResult,
    BeatResult,
    Claim,
    Follower,
    Ledger,
    LogSlice,
    MemoryLedger,
    Preemption,
    QueuePlace,
    ReleaseHow,
    RequestInfo,
    SlotOffer,
    UsagePage,
    UsageRecord,
)
from llmactors.messages import GenerateRequest, Terminal

_UNKNOWN_EPOCH = 1_000_000


def side_by_side(ledger: Ledger, memory: MemoryLedger) -> Ledger:
    """A ledger whose operations run on `ledger` and on `memory`, and assert that both answers or errors are equal.

    Readers follow `ledger`, and are counted in `memory` too.
    """
    return cast("Ledger", _SideBySide(ledger, memory))


class _SideBySide:
    """Compares every operation. The methods below are those for which `==` is not enough.

    The two ledgers number epochs differently, so each gets its own epoch of a claim.
    """

    def __init__(self, ledger: Ledger, memory: MemoryLedger) -> None:
        self.ledger = ledger
        self.memory = memory
        self._epochs: dict[tuple[str, int], int] = {}

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def compare(*args: Any) -> Any:
            expected = await _answer(getattr(self.memory, operation)(*args))
            found = await _answer(getattr(self.ledger, operation)(*args))
            if isinstance(expected, LlmactorsError) and type(found) is type(expected):
                raise expected
            assert found == expected, f"{operation}{args}: {found} instead of {expected}"
            return found

        return compare

    async def claim(self, worker: str, model: str, slots: int, *, hand_out: int = 0) -> list[Claim]:
        claims = await self.ledger.claim(worker, model, slots, hand_out=hand_out)
        self._compare_claims(claims, await self.memory.claim(worker, model, slots, hand_out=hand_out))
        return claims

    async def preempt(self, worker: str, model: str, offered: Sequence[SlotOffer]) -> Preemption | None:
        swap = await self.ledger.preempt(worker, model, offered)
        translated = [attrs.evolve(each, epoch=self._epoch(each.request_id, each.epoch)) for each in offered]
        expected = await self.memory.preempt(worker, model, translated)
        if swap is None or expected is None:
            assert swap == expected
        else:
            assert swap.given_up[0] == expected.given_up[0]
            self._compare_claims([swap.claim], [expected.claim])
        return swap

    def _compare_claims(self, claims: Sequence[Claim], expected: Sequence[Claim]) -> None:
        for claim, other in zip(claims, expected, strict=False):
            self._epochs[claim.request.id, claim.epoch] = other.epoch
        assert [self._comparable(each) for each in claims] == [self._comparable(each) for each in expected]

    @staticmethod
    def _comparable(claim: Claim) -> Claim:
        """The claim without its epochs, which differ between the ledgers."""
        earlier = tuple(attrs.evolve(note, epoch=0) for note in claim.earlier)
        return attrs.evolve(claim, epoch=0, waited_s=round(claim.waited_s, 3), earlier=earlier)

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

    async def now_ms(self) -> int:
        return await self.ledger.now_ms()

    async def expected_wait_s(self, request: GenerateRequest) -> float:
        found, expected = await self.ledger.expected_wait_s(request), await self.memory.expected_wait_s(request)
        assert abs(found - expected) <= 0.002  # one of the two ledgers rounds to milliseconds
        return found

    async def usage_records(self, *args: Any) -> UsagePage:
        # One move may end several requests, in any order.
        found, expected = await self.ledger.usage_records(*args), await self.memory.usage_records(*args)
        assert sorted(map(_fields, found.records)) == sorted(map(_fields, expected.records))
        return found

    async def places(self, request_ids: Sequence[str]) -> list[QueuePlace | None]:
        found, expected = await self.ledger.places(request_ids), await self.memory.places(request_ids)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.place == other.place
                assert (one.wait_s is None) == (other.wait_s is None)
                assert abs((one.wait_s or 0.0) - (other.wait_s or 0.0)) <= 0.002  # as above
        return found

    async def info(self, request_id: str) -> RequestInfo:
        expected = await _answer(self.memory.info(request_id))
        found = await _answer(self.ledger.info(request_id))
        if isinstance(expected, LlmactorsError):
            assert type(found) is type(expected), f"{found} instead of {expected!r}"
            raise expected
        claims = tuple(attrs.evolve(note, epoch=self._epoch(request_id, note.epoch)) for note in found.claims)
        assert attrs.evolve(found, epoch=self._epoch(request_id, found.epoch), claims=claims) == expected
        return cast("RequestInfo", found)

    async def read(self, request_id: str, after: int = 0) -> LogSlice:
        found, expected = await self.ledger.read(request_id, after), await self.memory.read(request_id, after)
        assert (found.first_seq, list(found.deltas)) == (expected.first_seq, list(expected.deltas))
        assert found.end == expected.end
        return found

    async def follow(self, request_id: str, after: int = 0) -> Follower:
        follower = await self.ledger.follow(request_id, after)
        return _CountedFollower(follower, await self.memory.follow(request_id, after))

    def _epoch(self, request_id: str, epoch: int) -> int:
        return 0 if epoch == 0 else self._epochs.get((request_id, epoch), _UNKNOWN_EPOCH)


def _fields(record: UsageRecord) -> tuple[Any, ...]:
    return msgspec.structs.astuple(record)


async def _answer(operation: Awaitable[Any]) -> Any:
    """The result of an operation, or the error that it raised."""
    try:
        return await operation
    except LlmactorsError as error:
        return error


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
