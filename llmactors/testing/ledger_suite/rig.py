"""The ledger under test with its clock, and the values that all tests of the suite use."""

# ruff: noqa: S101

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import attrs

from llmactors.ledger import AppendEntry, AppendOutcome, Claim, Ledger, LedgerSettings, SubmitOutcome
from llmactors.messages import (
    Failed,
    Finished,
    GenerateRequest,
    Terminal,
    TokenDelta,
    TokenExtra,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)

T = TypeVar("T")

SUITE_SETTINGS = LedgerSettings(
    max_queued=12,
    max_queued_bytes=4096,
    lease_s=0.5,
    retention_s=0.75,
    longest_read_s=2.0,
    tombstone_s=1.0,
    dead_letters_kept=4,
    retained_max=24,
    suspects_together=(2,),
    progress_tokens=8,
    conversations_max=6,
    affinity_lead_max=3,
    preempt_after_s=0.1,
    preemptions_max=2,
    preemptions_per_s=10.0,
    usage_records_max=8,
    usage_records_s=7200.0,
    usage_sums_max=3,
    usage_hours_s=86_400.0,
    usage_days_s=3 * 86_400.0,
)
"""Settings with small bounds, and with times that a test can wait for on a real clock."""

GRACE_MS = 600_000
"""A grace longer than any test, so that only the tests about readers need readers."""


def request(request_id: str = "r", **fields: Any) -> GenerateRequest:
    """A request for model `m` that needs no reader. `fields` replace fields of `GenerateRequest`."""
    usual: dict[str, Any] = {"model": "m", "prompt": "hi", "resume_grace_ms": GRACE_MS}
    return GenerateRequest(id=request_id, **usual | fields)


def tokens(first: int, last: int) -> tuple[TokenDelta, ...]:
    """The tokens from seq `first` to seq `last`, which are the same in every answer. Every other token has an extra."""
    return tuple(TokenDelta(1000 + seq, f" t{seq}", extra_of(seq)) for seq in range(first, last + 1))


def extra_of(seq: int) -> TokenExtra | None:
    """What the token of seq `seq` carries beside its text; None for an odd seq."""
    kinds = (
        TokenExtra(logprob=TokenLogprob(b" t\xc3", -0.5, (TopLogprob(7, b"\xa9", -0.25), TopLogprob(-1, b"", -3.5)))),
        TokenExtra(reasoning=f"because {seq} é"),
        TokenExtra(tool_calls=(ToolCallDelta(0, "call_1", "look", '{"at":'), ToolCallDelta(1, arguments=f"{seq}}}"))),
        TokenExtra(embedding=bytes(range(256))),
        TokenExtra(model="vendor/another"),
    )
    return None if seq % 2 else kinds[seq // 2 % len(kinds)]


def finished(completion_tokens: int) -> Finished:
    """The terminal event of a complete answer to a prompt of 3 tokens."""
    return Finished("stop", Usage(3, completion_tokens))


def code_of(end: Terminal | None) -> str:
    """The error code of a terminal event. Fails if the event is no error."""
    assert isinstance(end, Failed), end
    return end.code


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never yields to an event loop, and returns its result."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("the operation yielded")


@attrs.frozen
class Rig:
    """A fresh ledger with `SUITE_SETTINGS`, and the control of its time."""

    ledger: Ledger
    pass_time: Callable[[float], Awaitable[None]]
    """Lets this many seconds pass for the ledger, then returns."""
    wall_ms: Callable[[], int]
    """The ledger's wall clock: milliseconds since 1970."""
    settings: LedgerSettings = SUITE_SETTINGS

    async def submit(self, *requests: GenerateRequest) -> None:
        """Submits requests, each of which must be accepted."""
        for each in requests:
            assert await self.ledger.submit(each) is SubmitOutcome.ACCEPTED

    async def claim(self, worker: str = "w", slots: int = 1, model: str = "m") -> list[Claim]:
        """Sends a heartbeat of the worker, then claims."""
        await self.ledger.beat(worker)
        return await self.ledger.claim(worker, model, slots)

    async def start(self, submitted: GenerateRequest | None = None, worker: str = "w") -> Claim:
        """Submits one request and claims it for a worker."""
        await self.submit(submitted or request())
        [claim] = await self.claim(worker)
        return claim

    async def write(self, claim: Claim, first: int, last: int, end: Terminal | None = None) -> AppendOutcome:
        """Appends `tokens(first, last)`, and then `end` if there is one."""
        entry = AppendEntry(claim.request.id, claim.epoch, first, tokens(first, last), end)
        [result] = await self.ledger.append([entry])
        return result.outcome

    async def fall_silent(self) -> None:
        """Lets all leases end but that of one other worker, which beats meanwhile."""
        for pause in (0.0, 0.6, 0.4):
            await self.pass_time(self.settings.lease_s * pause)
            assert (await self.ledger.beat("heard of")).live
        await self.pass_time(0.01)

    async def crash(self, times: int, request_id: str = "r") -> None:
        """Claims the only queued request and loses its worker, `times` times."""
        for each in range(times):
            worker = f"crashing-{request_id}-{each}"
            [claim] = await self.claim(worker)
            assert claim.request.id == request_id
            await self.ledger.leave(worker)
