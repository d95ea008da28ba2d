"""Limits hold across gateways: three ledgers on one Redis, fifty clients, and processes that are killed meanwhile."""

import itertools
import math
import random
from collections.abc import Callable, Iterator

import attrs
import pytest
import structlog
import trio

from llmactors.errors import NotFound
from llmactors.ledger import AppendEntry, AppendOutcome, Candidate, Claim, LedgerSettings, ReleaseHow, SubmitOutcome
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.limiter import Charge, Limit, RateKind, RatePolicy
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

log = structlog.get_logger("tests")

CLIENTS = 50
RUN_S = 1.6
PROMPT = "a prompt of 24 bytes ..."
PROMPT_TOKENS = 6
PLENTY = 10**6
LOOSE = RatePolicy(amount=PLENTY, period_s=1)
DAY = RatePolicy(kind=RateKind.FIXED_WINDOW, amount=10**9, period_s=86_400)


@attrs.frozen
class Policy:
    """The limits of one tenant. One limit is tight; the others are never reached."""

    tight: Limit
    requests: RatePolicy = LOOSE
    tokens: RatePolicy = LOOSE
    concurrent: int = PLENTY


TENANTS = {
    "a": Policy(Limit.REQUESTS, requests=RatePolicy(amount=25, period_s=1, burst=10)),
    "b": Policy(Limit.TOKENS, tokens=RatePolicy(amount=900, period_s=1, burst=600)),
    "c": Policy(Limit.CONCURRENT, concurrent=5),
}

LEDGER = LedgerSettings(lease_s=0.5)
REDIS = RedisLedgerSettings(gateway_lease_s=0.4, disconnect_grace_s=0.2, silence_s=0.3, look_for_work_s=0.05)


def charges(tenant: str, tokens: int) -> tuple[Charge, ...]:
    policy = TENANTS[tenant]
    return (
        Charge(Limit.REQUESTS, f"requests:{tenant}", policy.requests, policy.requests.limit, 1),
        Charge(Limit.TOKENS, f"tokens:{tenant}", policy.tokens, policy.tokens.limit, tokens),
        Charge(Limit.DAY, f"day:{tenant}", DAY, DAY.limit, tokens),
        Charge(Limit.CONCURRENT, f"open:{tenant}", None, policy.concurrent),
    )


@attrs.define
class Seen:
    """One request as its client saw it. If Redis admitted the request, then between `asked_s` and `told_s`."""

    name: str
    tenant: str
    asked_s: float
    told_s: float
    reserved: int
    ended_s: float = math.inf
    """When a process first began to end the request; until then it was open."""
    used: int = 0
    """Known once all requests have ended."""


@attrs.define
class Run:
    """All requests of a run."""

    rng: random.Random
    seen: dict[str, Seen] = attrs.field(factory=dict)
    refused: dict[Limit, int] = attrs.field(factory=dict)
    over: bool = False
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    async def client(self, ledgers: list[RedisLedger], tenant: str) -> None:
        """Asks as fast as it can, at any live gateway, and sometimes twice for the same request."""
        while not self.over:
            name, max_tokens = f"r{next(self.numbers)}", self.rng.choice([10, 40, 150])
            reserved = PROMPT_TOKENS + max_tokens
            request = GenerateRequest(name, "m", PROMPT, max_tokens, tenant=tenant, resume_grace_ms=300)
            candidate = Candidate(request, charges(tenant, reserved))
            ledger = self.rng.choice(ledgers)
            seen = self.seen[name] = Seen(name, tenant, trio.current_time(), math.inf, reserved)
            try:
                result = await ledger.admit([candidate])
            finally:
                seen.told_s = trio.current_time()
            if result.outcome is SubmitOutcome.LIMITED:
                for standing in result.standings:
                    if not standing.decision.admitted:
                        limit = standing.charge.limit
                        self.refused[limit] = self.refused.get(limit, 0) + 1
                await trio.sleep(self.rng.random() * 0.02)
                continue
            assert result.outcome is SubmitOutcome.ACCEPTED
            if self.rng.random() < 0.2:
                assert (await self.rng.choice(ledgers).admit([candidate])).outcome is SubmitOutcome.DUPLICATE
            await self._read(ledger, seen)

    async def _read(self, ledger: RedisLedger, seen: Seen) -> None:
        follower = await ledger.follow(seen.name)
        with follower:
            if self.rng.random() < 0.2:
                await trio.sleep(self.rng.random() * 0.02)
                self._ends(seen.name)
                await ledger.cancel(seen.name)
            else:
                await follower.wait_end()

    def _ends(self, name: str) -> None:
        self.seen[name].ended_s = min(self.seen[name].ended_s, trio.current_time())

    async def worker(self, ledger: RedisLedger, name: str, lives_min: int) -> None:
        """Makes fewer tokens than requested. A worker that dies stops in the middle, and a new incarnation starts."""
        for life in itertools.count():
            me = f"{name}.{life}"
            lives = self.rng.randint(lives_min, 2 * lives_min)
            while lives > 0 and not self.over:
                if not (await ledger.beat(me)).live:
                    break
                for claim in await ledger.claim(me, "m", 6):
                    lives -= 1
                    if lives <= 0:
                        break  # with this and the rest in hand
                    await self._serve(ledger, claim)
                await trio.sleep(0.002)
            if self.over:
                return

    async def _serve(self, ledger: RedisLedger, claim: Claim) -> None:
        if self.rng.random() < 0.05:
            await ledger.release(claim.request.id, claim.epoch, ReleaseHow.FAILED, "it crashed")
            return
        have = len(claim.tokens)
        count = max(have, self.rng.randint(1, claim.request.max_tokens))
        new = [TokenDelta(1, "x")] * (count - have)
        end = Finished("stop", Usage(PROMPT_TOKENS, count))
        await ledger.append([AppendEntry(claim.request.id, claim.epoch, have + 1, new)])
        await trio.sleep(0.005)
        self._ends(claim.request.id)
        [result] = await ledger.append([AppendEntry(claim.request.id, claim.epoch, count + 1, (), end)])
        assert result.outcome in {AppendOutcome.OK, AppendOutcome.STOP, AppendOutcome.FENCED}, result


async def test_limits_hold_across_gateways_that_die(any_server: RedisServer) -> None:
    """Clients cancel and ask twice; a gateway and workers are killed. No permit stays reserved at the end."""
    seed = random.randrange(2**32)
    log.info("limits", seed=seed)
    run = Run(random.Random(seed))
    with any_server.client() as client:
        client.flushall()
    gateways = [RedisLedger(any_server.url, LEDGER, REDIS, name=f"gateway-{each}") for each in range(3)]
    workers = [RedisLedger(any_server.url, LEDGER, REDIS, name=f"worker-{each}") for each in range(2)]
    async with trio.open_nursery() as nursery:
        for ledger in [*gateways[:2], *workers]:
            await nursery.start(ledger.run)
        doomed = await nursery.start(run_alone, gateways[2])
        dying = await nursery.start(clients_of, run, gateways[2])
        nursery.start_soon(run.worker, workers[0], "steady", 10**9)
        nursery.start_soon(run.worker, workers[1], "dying", 5)
        nursery.start_soon(reap, gateways[0])
        async with trio.open_nursery() as living:
            for number in range(CLIENTS - CLIENTS // 3):
                living.start_soon(run.client, gateways[:2], "abc"[number % 3])
            await trio.sleep(RUN_S / 2)
            dying.cancel(reason="the gateway is killed, and with it all that its clients had")
            doomed.cancel(reason="the gateway is killed")
            await trio.sleep(RUN_S / 2)
            run.over = True
            living.cancel_scope.deadline = (
                trio.current_time() + 0.2
            )  # the clients' readers go, and the reaper ends the rest
        with trio.fail_after(10):
            await finish_all(workers[0], gateways[0])
        await check(run, gateways[0])
        nursery.cancel_scope.cancel(reason="the test is over")


async def run_alone(ledger: RedisLedger, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            task_status.started(scope)


async def clients_of(run: Run, ledger: RedisLedger, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS // 3):
                nursery.start_soon(run.client, [ledger], "abc"[number % 3])
            task_status.started(scope)


async def reap(ledger: RedisLedger) -> None:
    while True:
        await ledger.reap()
        await trio.sleep(0.05)


async def finish_all(worker: RedisLedger, gateway: RedisLedger) -> None:
    """Every accepted request ends: by a worker, or by the reaper once nobody reads the request."""
    while True:
        await worker.beat("last")
        for claim in await worker.claim("last", "m", 8):
            await worker.finish(
                claim.request.id, claim.epoch, Finished("stop", Usage(PROMPT_TOKENS, len(claim.tokens)))
            )
        statistics = await gateway.statistics()
        if statistics.queued + statistics.running == 0:
            return
        await trio.sleep(0.02)


async def check(run: Run, ledger: RedisLedger) -> None:
    assert set(run.refused) == {policy.tight for policy in TENANTS.values()}
    for tenant, policy in TENANTS.items():
        seen = [each for each in run.seen.values() if each.tenant == tenant and await was_admitted(ledger, each)]
        seen.sort(key=lambda each: each.told_s)
        log.info("admitted", tenant=tenant, requests=len(seen), refused=run.refused[policy.tight])
        tightest("requests", policy.requests, seen, lambda _: 1)
        tightest("tokens", policy.tokens, seen, lambda each: each.used)
        at_once = most_at_once(seen)
        if policy.tight is Limit.CONCURRENT:
            log.info("open at once", most=at_once, allowed=policy.concurrent)
        assert at_once <= policy.concurrent
        request = GenerateRequest("probe" + tenant, "m", PROMPT, 1, tenant=tenant)
        result = await ledger.admit([Candidate(request, charges(tenant, 1)[2:])])
        left = {standing.charge.limit: standing.decision.remaining for standing in result.standings}
        assert left[Limit.DAY] == DAY.amount - sum(each.used for each in seen) - 1, "tokens charged are tokens used"
        assert left[Limit.CONCURRENT] == policy.concurrent - 1


async def was_admitted(ledger: RedisLedger, seen: Seen) -> bool:
    """Fills in what each request used, also for requests whose gateway was killed before it could answer."""
    try:
        info = await ledger.info(seen.name)
    except NotFound:
        return False
    answer = await ledger.read(seen.name)
    assert answer.end is not None
    seen.used = len(answer.deltas) + (PROMPT_TOKENS if info.epoch > 0 else 0)
    assert seen.used <= seen.reserved
    return True


def tightest(what: str, policy: RatePolicy, seen: list[Seen], cost: Callable[[Seen], int]) -> None:
    """In no window more is admitted than the burst and the rate allow; prints the window that comes nearest."""
    nearest = (0.0, 0, 0.0, 0.0)
    for last in range(len(seen)):
        admitted, begins_s = 0, math.inf
        for each in reversed(seen[: last + 1]):
            admitted += cost(each)
            begins_s = min(begins_s, each.asked_s)
            length_s = seen[last].told_s - begins_s
            allowed = policy.limit + policy.amount * length_s / policy.period_s
            nearest = max(nearest, (admitted / allowed, admitted, allowed, length_s))
            assert admitted <= allowed, f"{admitted} {what} in {length_s:.3f} s, and {allowed:.0f} are allowed"
    share, admitted, allowed, length_s = nearest
    figures = {"admitted": admitted, "allowed": round(allowed), "share": f"{share:.0%}", "window_s": round(length_s, 3)}
    if policy is not LOOSE:
        log.info("fullest window", what=what, **figures)


def most_at_once(seen: list[Seen]) -> int:
    sure = [each for each in seen if each.told_s < each.ended_s < math.inf]
    changes = sorted([(each.told_s, 1) for each in sure] + [(each.ended_s, -1) for each in sure])
    return max(itertools.accumulate(change for _, change in changes))


async def test_restored_request_is_charged_again_once(any_server: RedisServer) -> None:
    """Redis forgets a charge with its request. The restored request is charged once, however often it is restored."""
    with any_server.client() as client:
        client.flushall()
    async with trio.open_nursery() as nursery:
        gateway = RedisLedger(any_server.url, LEDGER, REDIS, name="gateway")
        await nursery.start(gateway.run)
        asked = GenerateRequest("r", "m", PROMPT, 100, tenant="c", resume_grace_ms=10_000)
        candidate = Candidate(asked, charges("c", PROMPT_TOKENS + 100))
        await gateway.admit([candidate])
        with await gateway.follow("r"):
            with any_server.client() as client:
                client.flushdb()
            for _ in range(2):
                gateway.log_reader.compare_all()
                await gateway.log_reader.sync()
            result = await gateway.admit([candidate])
            left = {standing.charge.limit: standing.decision.remaining for standing in result.standings}
            assert result.outcome is SubmitOutcome.DUPLICATE
            assert (left[Limit.DAY], left[Limit.CONCURRENT]) == (DAY.amount - PROMPT_TOKENS - 100, 4)
            await gateway.cancel("r")
            result = await gateway.admit([candidate])
            left = {standing.charge.limit: standing.decision.remaining for standing in result.standings}
            assert (left[Limit.DAY], left[Limit.CONCURRENT]) == (DAY.amount, 5)
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize("kind", [RateKind.GCRA, RateKind.FIXED_WINDOW])
async def test_clock_that_was_ahead_refuses_nobody_for_long(any_server: RedisServer, kind: RateKind) -> None:
    """What was used while the clock was ahead stays used for at most one period."""
    with any_server.client() as client:
        client.flushall()
    now_ms = 1_800_000_000_000
    policy = RatePolicy(kind=kind, amount=5, period_s=60)

    async def ask(name: str) -> tuple[SubmitOutcome, float | None]:
        asked = GenerateRequest(name, "m", PROMPT, 100, resume_grace_ms=10_000)
        result = await ledger.admit([Candidate(asked, (Charge(Limit.RATE, "caller", policy, policy.limit),))])
        return result.outcome, result.standings[0].decision.retry_after_s

    async with trio.open_nursery() as nursery:
        ledger = RedisLedger(any_server.url, LEDGER, REDIS, clock_ms=lambda: now_ms)
        await nursery.start(ledger.run)
        now_ms += 86_400_000
        for number in range(5):
            assert (await ask(f"ahead {number}"))[0] is SubmitOutcome.ACCEPTED
        now_ms -= 86_400_000
        outcome, wait_s = await ask("back")
        assert outcome is SubmitOutcome.LIMITED
        assert wait_s is not None
        assert 0 < wait_s <= 60.001
        now_ms += 60_000
        assert await ask("later") == (SubmitOutcome.ACCEPTED, None)
        nursery.cancel_scope.cancel(reason="the test is over")
