"""What a ledger has to bring to be put through the suite, and the few values that all of its tests are made of."""

# ruff: noqa: S101

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from llmactors.ledger import AppendEntry, AppendOutcome, Claim, Ledger, LedgerSettings, SubmitOutcome
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage

SUITE_SETTINGS = LedgerSettings(
    max_queued=12,
    max_queued_bytes=4096,
    lease_s=0.5,
    retention_s=0.75,
    tombstone_s=1.0,
    dead_letters_kept=4,
    suspects_together=(2,),
)
"""Small bounds, and times short enough to be waited for where the clock is a real one."""

GRACE_MS = 600_000
"""No test waits this long, so that only those about readers have to think of them."""


def request(request_id: str = "r", **fields: Any) -> GenerateRequest:
    """A request for model `m` that nobody has to read."""
    usual: dict[str, Any] = {"model": "m", "prompt": "hi", "resume_grace_ms": GRACE_MS}
    return GenerateRequest(id=request_id, **usual | fields)


def tokens(first: int, last: int) -> tuple[TokenDelta, ...]:
    """The tokens from seq `first` to seq `last` of every answer."""
    return tuple(TokenDelta(1000 + seq, f" t{seq}") for seq in range(first, last + 1))


def finished(completion_tokens: int) -> Finished:
    """The end of a whole answer to a prompt of 3 tokens."""
    return Finished("stop", Usage(3, completion_tokens))


def code_of(end: Terminal | None) -> str:
    """The error code of an end that is a failure."""
    assert isinstance(end, Failed), end
    return end.code


@attrs.frozen
class Rig:
    """A fresh ledger with `SUITE_SETTINGS`, and its time."""

    ledger: Ledger
    pass_time: Callable[[float], Awaitable[None]]
    """Returns once this many seconds have passed for the ledger."""
    wall_ms: Callable[[], int]
    """The ledger's time since 1970, in milliseconds."""
    settings: LedgerSettings = SUITE_SETTINGS

    async def submit(self, *requests: GenerateRequest) -> None:
        """Submits what has to be accepted."""
        for each in requests:
            assert await self.ledger.submit(each) is SubmitOutcome.ACCEPTED

    async def claim(self, worker: str = "w", slots: int = 1, model: str = "m") -> list[Claim]:
        """Beats, then claims."""
        await self.ledger.beat(worker)
        return await self.ledger.claim(worker, model, slots)

    async def start(self, submitted: GenerateRequest | None = None, worker: str = "w") -> Claim:
        """Submits one request and has it claimed."""
        await self.submit(submitted or request())
        [claim] = await self.claim(worker)
        return claim

    async def write(self, claim: Claim, first: int, last: int, end: Terminal | None = None) -> AppendOutcome:
        """Appends `tokens(first, last)`, and `end` where there is one."""
        entry = AppendEntry(claim.request.id, claim.epoch, first, tokens(first, last), end)
        [result] = await self.ledger.append([entry])
        return result.outcome

    async def crash(self, times: int, request_id: str = "r") -> None:
        """Loses the only queued request's worker `times` times."""
        for each in range(times):
            worker = f"crashing-{request_id}-{each}"
            [claim] = await self.claim(worker)
            assert claim.request.id == request_id
            await self.ledger.leave(worker)
