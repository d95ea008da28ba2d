"""What the ledger in memory promises beyond the contract: bounded memory, and no task switches without need."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llmactors import errors
from llmactors.ledger import AppendEntry, LedgerSettings, MemoryLedger, ReleaseHow
from llmactors.ledger.settings import TOKEN_BYTES
from llmactors.messages import GenerateRequest, TokenDelta, TokenExtra
from llmactors.testing.ledger_suite import SUITE_SETTINGS, finished, request, tokens
from llmactors.testing.ledger_suite.rig import run_sync
from tests.support.residue import residue


@attrs.define
class Time:
    now_s: float = 0.0

    def now(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return round(self.now_s * 1000)


def make(time: Time, **changes: Any) -> MemoryLedger:
    return MemoryLedger(attrs.evolve(SUITE_SETTINGS, **changes), now=time.now, wall_ms=time.wall_ms)


def claim_one(ledger: MemoryLedger, submitted: GenerateRequest) -> int:
    """Submits and claims a request, and returns the epoch."""
    run_sync(ledger.submit(submitted))
    run_sync(ledger.beat("w"))
    [claim] = run_sync(ledger.claim("w", submitted.model, 1))
    return claim.epoch


def run_to_end(ledger: MemoryLedger, submitted: GenerateRequest, length: int, extra: TokenExtra | None = None) -> None:
    epoch = claim_one(ledger, submitted)
    answer = [TokenDelta(seq, "x", extra) for seq in range(length)]
    run_sync(ledger.append([AppendEntry(submitted.id, epoch, 1, answer, finished(length))]))


def test_memory_is_freed_once_all_requests_are_gone() -> None:
    time = Time()
    ledger = make(time, max_queued=100_000, max_queued_bytes=2**30)
    for number in range(10_000):
        deadline_ms = None if number % 3 else 10**9
        fields = {"tenant": f"tenant{number % 50}", "model": f"model{number % 7}", "deadline_ms": deadline_ms}
        submitted = request(f"r{number}", **fields)
        run_sync(ledger.submit(submitted))
        with run_sync(ledger.follow(submitted.id)):
            pass
    worker = 0
    while (left := run_sync(ledger.statistics())).queued:
        worker += 1
        run_sync(ledger.beat(f"w{worker}"))
        for model in range(7):
            claims = run_sync(ledger.claim(f"w{worker}", f"model{model}", 40))
            for number, claim in enumerate(claims):
                request_id = claim.request.id
                entry = AppendEntry(request_id, claim.epoch, 1, tokens(1, 3), finished(3))
                match number % 5:
                    case 0 | 1 | 2:
                        run_sync(ledger.append([entry]))
                    case 3:
                        run_sync(ledger.cancel(request_id))
                    case 4:
                        run_sync(ledger.release(request_id, claim.epoch, ReleaseHow.FAILED))
        time.now_s += 0.01
        run_sync(ledger.reap())
    assert left.accepted_total == left.ended_total == 10_000
    for _ in range(2):
        time.now_s += 2 * (ledger.settings.retention_s + ledger.settings.tombstone_s)
        run_sync(ledger.reap())
    left_behind = set(residue(ledger)) - {"_life.usage._records", "_life.usage._sums"}
    assert left_behind <= {"_life.dead_letters", "_life._new_dead_letters", "_life.leases._dead"}
    assert run_sync(ledger.statistics()).log_tokens == 0


@pytest.mark.parametrize(("changes", "kept"), [({"retained_max": 3}, 3), ({"retained_tokens_max": 25}, 2)])
def test_retained_logs_are_bounded_and_oldest_are_evicted(changes: dict[str, int], kept: int) -> None:
    ledger = make(Time(), **changes)
    for number in range(5):
        run_to_end(ledger, request(f"r{number}"), length=10)
    for number in range(5 - kept):
        with pytest.raises(errors.Expired):
            run_sync(ledger.info(f"r{number}"))
    assert run_sync(ledger.statistics()).ended == kept
    assert len(run_sync(ledger.read("r4")).deltas) == 10


def test_bound_on_tokens_counts_the_bytes_that_tokens_carry() -> None:
    ledger = make(Time(), retained_tokens_max=1000)
    for number in range(4):
        run_to_end(ledger, request(f"r{number}"), length=10, extra=TokenExtra(embedding=bytes(40 * TOKEN_BYTES)))
    assert run_sync(ledger.statistics()).ended == 2
    for number in range(2, 4):
        assert len(run_sync(ledger.read(f"r{number}")).deltas) == 10


def test_bound_on_tokens_counts_the_bytes_of_requests() -> None:
    ledger = make(Time(), retained_tokens_max=1000, max_queued_bytes=2**30)
    for number in range(4):
        run_to_end(ledger, request(f"r{number}", prompt="x" * 400 * TOKEN_BYTES), length=10)
    assert run_sync(ledger.statistics()).ended == 2


def test_tenant_with_many_tokens_evicts_its_own_answers() -> None:
    ledger = make(Time(), retained_tokens_max=50)
    for number in range(8):
        run_to_end(ledger, request(f"small{number}", tenant="small"), length=1)
    for number in range(8):
        run_to_end(ledger, request(f"large{number}", tenant="large"), length=20)
    assert run_sync(ledger.statistics()).log_tokens == 48
    for number in range(8):
        assert len(run_sync(ledger.read(f"small{number}")).deltas) == 1


def test_tombstones_of_a_loud_tenant_leave_those_of_others() -> None:
    ledger = make(Time(), retained_max=1, tombstones_max=5)
    for name in ("quiet", "quiet again"):
        run_to_end(ledger, request(name, tenant="quiet"), length=1)
    for number in range(20):
        run_to_end(ledger, request(f"loud{number}", tenant="loud"), length=1)
    with pytest.raises(errors.Expired):
        run_sync(ledger.info("quiet"))
    with pytest.raises(errors.NotFound):
        run_sync(ledger.info("loud0"))


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_jump_of_the_wall_clock_moves_no_deadline(jump_s: int) -> None:
    time, wall_s = Time(), [1_750_000_000]
    ledger = MemoryLedger(now=time.now, wall_ms=lambda: wall_s[0] * 1000)
    until_ms = wall_s[0] * 1000 + 5000
    run_sync(ledger.submit(request("at", deadline_ms=until_ms)))
    run_sync(ledger.submit(request("after", timeout_ms=5000)))
    wall_s[0] += jump_s
    time.now_s += 4.9
    assert run_sync(ledger.reap()) == 0
    time.now_s += 0.2
    assert run_sync(ledger.reap()) == 2


def test_tombstones_and_dead_workers_are_bounded() -> None:
    ledger = make(Time(), tombstones_max=2, retained_max=1, dead_workers_kept=2)
    for number in range(5):
        run_to_end(ledger, request(f"r{number}"), length=1)
        run_sync(ledger.leave("w"))
        run_sync(ledger.beat(f"w{number}"))
        run_sync(ledger.leave(f"w{number}"))
        # Only the newest ids are known to be dead.
        run_sync(ledger.beat("other"))
        run_sync(ledger.leave("other"))
    with pytest.raises(errors.NotFound):
        run_sync(ledger.info("r0"))
    with pytest.raises(errors.Expired):
        run_sync(ledger.info("r3"))
    assert residue(ledger)["_life.leases._dead"] == 2


def test_open_follower_outlives_its_log() -> None:
    ledger = make(Time())
    run_to_end(ledger, request(), length=4)
    with run_sync(ledger.follow("r", 1)) as follower:
        run_sync(ledger.forget("r"))
        taken = follower.take()
        assert ([delta.token for delta in taken.deltas], taken.end) == ([1, 2, 3], finished(4))


def test_expired_reservation_frees_the_worker() -> None:
    time = Time()
    ledger = make(time, quarantine_from_attempt=2)
    epoch = claim_one(ledger, request(deadline_ms=100))
    run_sync(ledger.release("r", epoch, ReleaseHow.FAILED))
    run_sync(ledger.submit(request("busy", model="other")))
    run_sync(ledger.claim("w", "other", 1))
    run_sync(ledger.submit(request("later")))
    assert run_sync(ledger.claim("w", "m", 1)) == []
    time.now_s += 0.2
    run_sync(ledger.reap())
    [claim] = run_sync(ledger.claim("w", "m", 1))
    assert claim.request.id == "later"


@pytest.mark.parametrize("after", [-1, -9])
def test_negative_seq_is_refused(after: int) -> None:
    ledger = make(Time())
    epoch = claim_one(ledger, request())
    with pytest.raises(ValueError, match="seq counts from 1"):
        run_sync(ledger.read("r", after))
    with pytest.raises(ValueError, match="seq counts from 1"):
        run_sync(ledger.append([AppendEntry("r", epoch, after, tokens(1, 1))]))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="lease_s"):
        LedgerSettings(lease_s=0)


def test_repr_shows_the_state() -> None:
    ledger = make(Time())
    claim_one(ledger, request("a"))
    run_sync(ledger.submit(request("b")))
    assert repr(ledger) == "<MemoryLedger of <Lifecycle: 1 queued, 1 running, 0 ended, 1 workers>>"


async def test_tokens_do_not_wake_a_wait_for_the_end() -> None:
    ledger = MemoryLedger(SUITE_SETTINGS)
    await ledger.submit(request())
    await ledger.beat("w")
    [claim] = await ledger.claim("w", "m", 1)
    switches = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal switches
            switches += task.name == "waiter"

    async def wait() -> None:
        with await ledger.follow("r") as follower:
            await follower.wait_end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, name="waiter")
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(counter := Count())
        for seq in range(1, 50):
            await ledger.append([AppendEntry("r", claim.epoch, seq, tokens(seq, seq))])
            await wait_all_tasks_blocked()
        assert switches == 0
        await ledger.finish("r", claim.epoch, finished(49))
    trio.lowlevel.remove_instrument(counter)
    assert switches == 1


async def test_cancelled_wait_leaves_nothing_behind() -> None:
    ledger = MemoryLedger(SUITE_SETTINGS)
    await ledger.submit(request())
    await ledger.beat("w")
    [claim] = await ledger.claim("w", "m", 1)
    with await ledger.follow("r") as follower:
        for wait in (follower.wait_more, follower.wait_end):
            with trio.move_on_after(0):
                await wait()
        await ledger.append([AppendEntry("r", claim.epoch, 1, tokens(1, 1), finished(1))])
        assert follower.take().end == finished(1)
    with trio.move_on_after(0) as scope:
        await ledger.wait_work("w", "m")
    assert scope.cancelled_caught


async def test_worker_without_a_lease_does_not_wait_for_work() -> None:
    ledger = MemoryLedger(SUITE_SETTINGS)
    await ledger.wait_work("stranger", "m")
    await ledger.beat("w")
    await ledger.wait_work("w", "m")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.wait_work, "w", "m")
        await wait_all_tasks_blocked()
        await ledger.leave("w")
