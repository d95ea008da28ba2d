"""`load --synthetic`: the figures of a load without any HTTP. Requests go straight into a ledger in memory.

The run measures the batcher, the simulated backend, the ledger and their supervision, in this process, together with
the clients. What a served request takes in addition is the gateway's part.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import attrs
import trio

from llmactors.backends.build import ServedModel, serve_model
from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.ledger import SubmitOutcome
from llmactors.load.measure import quiet
from llmactors.load.native import check_end
from llmactors.load.plan import Check, Plan
from llmactors.load.recording import Malformed
from llmactors.load.report import report
from llmactors.load.tally import Tally
from llmactors.load.target import Target
from llmactors.load.token_times import TokenTimes
from llmactors.messages import Failed, Finished, GenerateRequest
from llmactors.system.serving_only import serving_only

NOTE = (
    "synthetic: no HTTP, no sockets and no Redis were involved. Batcher, simulated backend and ledger ran in this "
    "process, beside the clients"
)
_MODEL = "mock"
_TICK_S = 0.25
_NOWHERE = Target("", 0, "", "")


def measure(
    *, clients: int, requests: int, max_tokens: int, stream: bool, model: str | None, limit_s: float
) -> dict[str, Any]:
    """Runs a closed loop, checks every token, and returns the report. `model` is `mock` or `mock:OPTIONS`.

    Raises `ConfigError` for a figure that is out of bounds, and for another model.
    """
    kind, _, options = (model or _MODEL).partition(":")
    if kind != _MODEL:
        raise ConfigError(f"`model`: --synthetic runs the simulated backend only, mock or mock:OPTIONS, not {model}")
    plan = Plan(
        target=_NOWHERE,
        clients=clients,
        requests=requests,
        max_tokens=max_tokens,
        stream=stream,
        check=Check.MOCK,
        model=model,
        limit_s=limit_s,
    )
    run = _Run(plan, serve_model(f"{_MODEL}:{options}"))
    with quiet(run.interrupt):
        cpu_before = time.process_time()
        trio.run(run.main)
        cpu_s = time.process_time() - cpu_before
    described = {**plan.described(), "url": None, "host": None, "port": None, "api": "none"}
    client = {
        "name": "everything together",
        "cpu_s": cpu_s,
        "busy": cpu_s / run.seconds,
        "cores": sorted(os.sched_getaffinity(0)),
        "checked_early": 0,
    }
    result = report(described, run.tally, seconds=run.seconds, ended=run.ended, client=client)
    return {**result, "synthetic": True, "note": NOTE}


class _Run:
    """One run of a plan: the actors and their clients."""

    def __init__(self, plan: Plan, model: ServedModel) -> None:
        self.tally = Tally()
        self.seconds = 0.0
        self.ended = "complete"
        self._plan = plan
        serving = serving_only(Settings(max_queued=plan.clients + 1), [model])
        self._tree, self._ledger = serving.tree, serving.ledger
        self._next = 0
        self._under_way = 0
        self._begun = 0.0
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True

    async def main(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._tree.run)
            self._begun = time.perf_counter()
            async with trio.open_nursery() as asking:
                asking.start_soon(self._watch, asking.cancel_scope)
                async with trio.open_nursery() as clients:
                    for _ in range(min(self._plan.clients, self._plan.requests)):
                        clients.start_soon(self._client)
                asking.cancel_scope.cancel(reason="all have their answers")
            self.seconds = time.perf_counter() - self._begun
            self._tree.stop()
            nursery.cancel_scope.deadline = trio.current_time() + 5

    async def _watch(self, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(_TICK_S)
            seconds = time.perf_counter() - self._begun
            if not self._interrupted and seconds < self._plan.limit_s:
                continue
            self.ended = "interrupted" if self._interrupted else "limit"
            if self._interrupted:
                self.tally.interrupted = self._under_way
            else:
                for _ in range(self._under_way):
                    self.tally.fail("broken_off", f"the run took longer than {self._plan.limit_s:g} s", at=seconds)
            scope.cancel(reason=self.ended)
            return

    async def _client(self) -> None:
        while self._next < self._plan.requests:
            index = self._next
            self._next += 1
            self._under_way += 1
            begun = time.perf_counter()
            try:
                token_times = await self._ask(index)
            except Malformed as wrong:
                at = time.perf_counter() - self._begun
                self.tally.fail(wrong.kind, f"request {index}: {wrong.detail}", at=at, code=wrong.code)
            else:
                ended = time.perf_counter()
                self.tally.succeed(token_times, begun=begun, ended=ended, at=ended - self._begun)
            self._under_way -= 1

    async def _ask(self, index: int) -> TokenTimes:
        plan = self._plan
        prompt = plan.prompt_of(index)
        request = GenerateRequest(f"load-{index}", _MODEL, prompt, max_tokens=plan.max_tokens, seed=index)
        outcome = await self._ledger.submit(request)
        if outcome is not SubmitOutcome.ACCEPTED:
            raise Malformed("refused", outcome.value, refusal=True)
        base = sequence_hash(prompt, index)
        times: list[float] = []
        per_chunk: list[int] = []
        tokens = 0
        with await self._ledger.follow(request.id) as follower:
            wait: Callable[[], Any] = follower.wait_more if plan.stream else follower.wait_end
            while True:
                await wait()
                part = follower.take()
                now = time.perf_counter()
                for delta in part.deltas:
                    tokens += 1
                    if delta != token_of(base, tokens):
                        raise Malformed("wrong_token", f"seq {tokens}: {delta.text!r}")
                if part.deltas and plan.stream:
                    times += [now] * len(part.deltas)
                    per_chunk.append(len(part.deltas))
                if isinstance(part.end, Failed):
                    raise Malformed("stream_error", part.end.message, code=part.end.code)
                if isinstance(part.end, Finished):
                    usage = attrs.asdict(part.end.usage)
                    check_end(plan, tokens, part.end.reason, usage)
                    return TokenTimes(tokens, times, per_chunk)
