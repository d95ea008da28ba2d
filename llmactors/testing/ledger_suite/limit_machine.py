"""A Hypothesis state machine that compares the limits of a ledger with a naive account.

The account keeps every admission with its time and its cost, and looks at all of them every time. For a token bucket
the account gives two bounds: the ledger must leave no more than if each request had reserved only what it used, and no
less than if no reservation had been returned. For daily limits and permits the account knows the exact amount.
"""

# ruff: noqa: S101

import datetime as dt
from abc import abstractmethod
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmactors.ledger import (
    AppendEntry,
    AppendOutcome,
    Candidate,
    Claim,
    Ledger,
    LedgerSettings,
    ReleaseHow,
    SubmitOutcome,
)
from llmactors.limiter import Limit, Limits, RatePolicy, charges_for
from llmactors.limiter.limits import Budget
from llmactors.messages import Failed, Finished, GenerateRequest, TokenDelta, Usage
from llmactors.prices import Price
from llmactors.testing.ledger_suite.rig import run_sync

T = TypeVar("T")

SETTINGS = LedgerSettings(max_queued=8, lease_s=1e6, retention_s=1e6, tombstone_s=1e6, suspects_together=(8,))
BUDGETS = Budget(650_000, "month"), Budget(500_000, "day", "key")
LIMITS = Limits(requests_per_minute=7, tokens_per_minute=60, tokens_per_day=250, concurrent=4, budgets=BUDGETS)
PRICE = Price.per_million(1.0, 3.0, 0.5)
RATE = RatePolicy(amount=5, period_s=10, burst=6)
DAY_MS = 86_400_000
PROMPT = "8 bytes."
PROMPT_TOKENS = 2

TENANTS = st.sampled_from(["a", "a", "b"])


@attrs.define
class Spent:
    """One request in the account."""

    candidate: Candidate
    at_ms: int
    reserved: int
    used: int
    """The tokens that were used; until the end of the request, the reservation."""
    owed: int = 0
    """The tokens that were used beyond the reservation, which are charged at `ended_ms`."""
    used_nano: int = 0
    """The cost of `used`, and until the end of the request the most that the request can cost."""
    owed_nano: int = 0
    ended_ms: int | None = None
    claimed: bool = False
    """Whether a worker ever claimed the request."""
    running: bool = False
    logged: int = 0

    @property
    def tenant(self) -> str:
        return self.candidate.request.tenant


def bucket_left(amount: int, period_ms: int, limit: int, now_ms: int, uses: Iterable[tuple[int, int]]) -> int:
    """The amount left in a bucket that drains `amount` per period, after these uses: pairs of time and cost."""
    level, at_ms = 0, 0
    for moment_ms, cost in [*sorted(uses), (now_ms, 0)]:
        level = max(0, level - (moment_ms - at_ms) * amount) + cost * period_ms
        at_ms = moment_ms
    return max(0, limit * period_ms - level) // period_ms


class LimitMachine(RuleBasedStateMachine):
    """All rules. A subclass tests one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 19_997 * DAY_MS - 90_000  # shortly before a month begins
        self.ledger = self.make_ledger(SETTINGS)
        self.spent: list[Spent] = []
        self.claims: list[Claim] = []
        self.worker = 0

    @abstractmethod
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        """Makes a fresh ledger, whose clocks are `self.now` and `self.wall_ms`."""

    def new_ids(self, tenant: str, count: int) -> list[str]:  # noqa: ARG002
        """The ids of the next requests of a tenant."""
        return [f"r{len(self.spent) + each}" for each in range(count)]

    def queue_of(self, request_id: str) -> int:  # noqa: ARG002
        """The queue in which a request waits. A ledger has one, unless a subclass says otherwise."""
        return 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run_sync(coroutine)

    def settle(self) -> None:
        """Waits until the ledger knows which readers are left."""

    def now(self) -> float:
        return self.now_ms / 1000

    def wall_ms(self) -> int:
        return self.now_ms

    def teardown(self) -> None:
        """Ends every request, and checks that nothing is reserved or open any more."""
        for spent in self.spent:
            if spent.ended_ms is None:
                self.run(self.ledger.cancel(spent.candidate.request.id))
                self._end(spent, prompt=PROMPT_TOKENS if spent.claimed else 0)
        for tenant in "ab":
            if (known := self._left(tenant)) is not None:
                assert known[Limit.CONCURRENT] == LIMITS.concurrent
                assert known[Limit.DAY] == self._day_left(tenant)
        page = self.run(self.ledger.usage_records(0, self.now_ms + 1))
        recorded = {
            each.request_id: (each.prompt_tokens + each.completion_tokens, each.cost_nano) for each in page.records
        }
        assert recorded == {
            each.candidate.request.id: (each.used + each.owed, each.used_nano + each.owed_nano) for each in self.spent
        }

    # Rules.

    @rule(
        tenant=TENANTS,
        max_tokens=st.sampled_from([1, 8, 18, 18, 28, 58, 80]),
        choices=st.sampled_from([1, 1, 1, 2, 3]),
        times=st.sampled_from([1, 1, 2]),
    )
    def admit(self, tenant: str, max_tokens: int, choices: int, times: int) -> None:
        """Admits one or more requests together, and repeats the call if its first answer was lost."""
        names = self.new_ids(tenant, choices)
        candidates = [self._candidate(name, tenant, max_tokens) for name in names]
        reserved = PROMPT_TOKENS + max_tokens
        cost_nano = choices * PRICE.most_nano(PROMPT_TOKENS, max_tokens)
        most, least = self._may(tenant, choices, reserved * choices, cost_nano)
        waiting = (spent.candidate.request.id for spent in self.spent if spent.ended_ms is None and not spent.running)
        queued = sum(self.queue_of(each) == self.queue_of(names[0]) for each in waiting)
        result = self.run(self.ledger.admit(candidates))
        if queued + choices > SETTINGS.max_queued:
            assert result.outcome is SubmitOutcome.OVERLOADED
        elif result.outcome is SubmitOutcome.ACCEPTED:
            assert most, "more was admitted than the policy allows"
            most_nano = PRICE.most_nano(PROMPT_TOKENS, max_tokens)
            self.spent += [
                Spent(candidate, self.now_ms, reserved, reserved, used_nano=most_nano) for candidate in candidates
            ]
            if times == 2:
                assert self.run(self.ledger.admit(candidates)).outcome is SubmitOutcome.DUPLICATE
        else:
            assert result.outcome is SubmitOutcome.LIMITED
            assert not least, f"refused, although nothing that was ever reserved stands against it: {result}"

    @rule(slots=st.integers(1, 4))
    def claim(self, slots: int) -> None:
        name = f"w{self.worker}"
        self.run(self.ledger.beat(name))
        for claim in self.run(self.ledger.claim(name, "m", slots)):
            self.claims.append(claim)
            self._of(claim).claimed = self._of(claim).running = True

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), count=st.integers(0, 9))
    def write(self, data: st.DataObject, count: int) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self._append(claim, count, None)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), count=st.integers(0, 5), prompt=st.sampled_from([0, 1, 3, 40]), failed=st.booleans())
    def finish(self, data: st.DataObject, count: int, prompt: int, failed: bool) -> None:
        """Finishes a request by its worker, or by a worker that has lost the request, which must change nothing."""
        claim = data.draw(st.sampled_from(self.claims))
        total = self._of(claim).logged + count
        end = Failed("BACKEND_FAILED", "x") if failed else Finished("stop", Usage(prompt, total))
        ended = self._append(claim, count, end)
        self._append(claim, 0, end)  # as after a lost answer
        if ended:
            self._end(self._of(claim), prompt=PROMPT_TOKENS if failed or prompt == 0 else prompt)

    @precondition(lambda self: self.spent)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        spent = data.draw(st.sampled_from(self.spent))
        if self.run(self.ledger.cancel(spent.candidate.request.id)):
            self._end(spent, prompt=PROMPT_TOKENS if spent.claimed else 0)

    @rule(how=st.sampled_from(["leave", "silent", "fatal"]), data=st.data())
    def lose(self, how: str, data: st.DataObject) -> None:
        """Loses the worker, or has the worker release a request."""
        if how == "leave":
            self.run(self.ledger.leave(f"w{self.worker}"))
            self.worker += 1
            for spent in self.spent:
                spent.running = False
                # A request that crashed too often has ended.
                name = spent.candidate.request.id
                if spent.ended_ms is None and self.run(self.ledger.info(name)).state == "ended":
                    self._end(spent, prompt=PROMPT_TOKENS)
        elif self.claims:
            claim = data.draw(st.sampled_from(self.claims))
            release = ReleaseHow.SILENT if how == "silent" else ReleaseHow.FATAL
            result = self.run(self.ledger.release(claim.request.id, claim.epoch, release, "x"))
            if result.outcome is not AppendOutcome.OK:
                return
            self._of(claim).running = False
            if release is ReleaseHow.FATAL:
                self._end(self._of(claim), prompt=PROMPT_TOKENS)

    @rule(ms=st.sampled_from([1, 200, 1000, 1000, 3000, 10_000, 30_000, 61_000]))
    def pass_time(self, ms: int) -> None:
        self.settle()
        self.now_ms += ms

    # Invariants.

    @invariant()
    def remaining_amounts_match_the_account(self) -> None:
        for tenant in "ab":
            left = self._left(tenant)
            if left is None:
                continue
            assert left[Limit.CONCURRENT] == max(0, (LIMITS.concurrent or 0) - self._open(tenant))
            assert left[Limit.DAY] == self._day_left(tenant)
            assert {limit: left[limit] for limit in left if limit.of_money} == self._budgets_left(tenant)
            assert left[Limit.REQUESTS] == self._requests_left(tenant)
            assert left[Limit.RATE] == self._rate_left(tenant)
            least, most = self._tokens_left(tenant)
            assert least <= left[Limit.TOKENS] <= most, f"{left[Limit.TOKENS]} is not within {least}..{most}"

    # The account.

    def _of(self, claim: Claim) -> Spent:
        return next(spent for spent in self.spent if spent.candidate.request.id == claim.request.id)

    def _append(self, claim: Claim, count: int, end: Finished | Failed | None) -> bool:
        spent = self._of(claim)
        deltas = tuple(TokenDelta(1, "x") for _ in range(count))
        entry = AppendEntry(claim.request.id, claim.epoch, spent.logged + 1, deltas, end)
        [result] = self.run(self.ledger.append([entry]))
        if result.outcome is not AppendOutcome.OK:
            return False
        if spent.ended_ms is None:
            spent.logged += count
        return end is not None

    def _end(self, spent: Spent, *, prompt: int) -> None:
        if spent.ended_ms is not None:
            return
        used, cost_nano = prompt + spent.logged, PRICE.cost_nano(prompt, spent.logged)
        spent.ended_ms = self.now_ms
        spent.used_nano, spent.owed_nano = min(cost_nano, spent.used_nano), max(0, cost_nano - spent.used_nano)
        spent.used, spent.owed = min(used, spent.reserved), max(0, used - spent.reserved)

    def _candidate(self, name: str, tenant: str, max_tokens: int) -> Candidate:
        asked = GenerateRequest(name, "m", PROMPT, max_tokens, tenant=tenant, resume_grace_ms=10**9, price=PRICE)
        most, most_nano = PROMPT_TOKENS + max_tokens, PRICE.most_nano(PROMPT_TOKENS, max_tokens)
        charges = charges_for(LIMITS, tenant, tokens=most, cost_nano=most_nano, rate=RATE, limit_key=tenant)
        return Candidate(asked, charges)

    def _left(self, tenant: str) -> dict[Limit, int] | None:
        """The remaining amounts by the ledger's answer to a request that the ledger knows already."""
        known = next((spent.candidate for spent in self.spent if spent.tenant == tenant), None)
        if known is None:
            return None
        result = self.run(self.ledger.admit([known]))
        assert result.outcome is SubmitOutcome.DUPLICATE
        return {standing.charge.limit: standing.decision.remaining for standing in result.standings}

    def _may(self, tenant: str, choices: int, tokens: int, cost_nano: int) -> tuple[bool, bool]:
        """Whether the requests may be admitted, and whether they must be."""
        exact = (
            self._open(tenant) + choices <= (LIMITS.concurrent or 0)
            and tokens <= self._day_left(tenant)
            and all(cost_nano <= left for left in self._budgets_left(tenant).values())
            and choices <= min(self._requests_left(tenant), self._rate_left(tenant))
        )
        least, most = self._tokens_left(tenant)
        return exact and tokens <= most, exact and tokens <= least

    def _all(self, tenant: str) -> list[Spent]:
        return [spent for spent in self.spent if spent.tenant == tenant]

    def _open(self, tenant: str) -> int:
        return sum(spent.ended_ms is None for spent in self._all(tenant))

    def _requests_left(self, tenant: str) -> int:
        amount = LIMITS.requests_per_minute or 0
        return bucket_left(amount, 60_000, amount, self.now_ms, ((each.at_ms, 1) for each in self._all(tenant)))

    def _rate_left(self, tenant: str) -> int:
        uses = ((each.at_ms, 1) for each in self._all(tenant))
        return bucket_left(RATE.amount, 10_000, RATE.limit, self.now_ms, uses)

    def _tokens_left(self, tenant: str) -> tuple[int, int]:
        amount = LIMITS.tokens_per_minute or 0
        owed = [(each.ended_ms or 0, each.owed) for each in self._all(tenant) if each.owed]
        gross = [(each.at_ms, each.reserved) for each in self._all(tenant)]
        net = [(each.at_ms, each.used) for each in self._all(tenant)]
        least = bucket_left(amount, 60_000, amount, self.now_ms, gross + owed)
        return least, bucket_left(amount, 60_000, amount, self.now_ms, net + owed)

    def _day_left(self, tenant: str) -> int:
        today = self.now_ms // DAY_MS
        used = sum(each.used for each in self._all(tenant) if each.at_ms // DAY_MS == today)
        owed = sum(each.owed for each in self._all(tenant) if each.owed and (each.ended_ms or 0) // DAY_MS == today)
        return max(0, (LIMITS.tokens_per_day or 0) - used - owed)

    def _budgets_left(self, tenant: str) -> dict[Limit, int]:
        left = {}
        for budget, limit in zip(BUDGETS, (Limit.MONTH_BUDGET, Limit.KEY_DAY_BUDGET), strict=True):
            now = _period(budget.period, self.now_ms)
            used = sum(each.used_nano for each in self._all(tenant) if _period(budget.period, each.at_ms) == now)
            owed = sum(
                each.owed_nano
                for each in self._all(tenant)
                if each.owed_nano and _period(budget.period, each.ended_ms or 0) == now
            )
            left[limit] = max(0, budget.amount_nano - used - owed)
        return left


def _period(period: str, at_ms: int) -> str:
    """The day or the month of a moment, as a text."""
    day = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).date().isoformat()
    return day if period == "day" else day[:7]
