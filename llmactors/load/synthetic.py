"""The same figures without any HTTP: requests go straight into a ledger in memory, and tokens are read from its logs.

What is measured is the batcher, the simulated backend, the ledger and the supervision between them, in this process,
together with those who ask. It says how much of a served request is not the gateway's.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import attrs
import trio

from llmactors.actors import ActorSpec, Tree
from llmactors.backends.directory import ModelDirectory
from llmactors.backends.mock.backend import FaultState, MockBackend, MockSettings
from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.batcher.actor import BatcherSettings
from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.ledger import MemoryLedger, SubmitOutcome
from llmactors.ledger.actor import ReaperActor
from llmactors.load.answer import Malformed
from llmactors.load.measure import quiet
from llmactors.load.native import check_end
from llmactors.load.plan import Check, Plan
from llmactors.load.reading import Reading
from llmactors.load.report import report
from llmactors.load.tally import Tally
from llmactors.load.target import Target
from llmactors.messages import Failed, Finished, GenerateRequest
from llmactors.system import wiring
from llmactors.system.model_actors import ServedModel, model_actors
from llmactors.telemetry import Metrics

NOTE = (
    "synthetic: no HTTP, no sockets and no Redis were involved. Batcher, simulated backend and ledger ran in this "
    "process, beside those who asked"
)
_MODEL = "mock"
_TICK_S = 0.25
_NOWHERE = Target("", 0, "", "")


def measure(
    *, clients: int, requests: int, max_tokens: int, stream: bool, model: str | None, limit_s: float
) -> dict[str, Any]:
    """Runs a closed loop and says what was found, with every token checked. `model` is `mock` or `mock:OPTIONS`.

    Raises `ConfigError` for what is out of bounds.
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
    run = _Run(plan, MockSettings.parse(options))
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
    """The actors, and those who ask."""

    def __init__(self, plan: Plan, mock: MockSettings) -> None:
        self.tally = Tally()
        self.seconds = 0.0
        self.ended = "complete"
        self._plan = plan
        self._ledger = MemoryLedger(wiring.ledger_settings(Settings(max_queued=plan.clients + 1)))
        faults = FaultState()
        models = (ServedModel(_MODEL, lambda: MockBackend(mock, faults)),)
        metrics = Metrics()
        made = model_actors(
            Settings(),
            models,
            ledger=self._ledger,
            directory=ModelDirectory((_MODEL,)),
            metrics=metrics,
            batching=BatcherSettings(),
        )
        infra = (ActorSpec("ledger", lambda: ReaperActor(self._ledger)),)
        self._tree = Tree(wiring.node_of(infra, (made.backends, *made.batchers)))
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
                reading = await self._ask(index)
            except Malformed as wrong:
                at = time.perf_counter() - self._begun
                self.tally.fail(wrong.kind, f"request {index}: {wrong.detail}", at=at, code=wrong.code)
            else:
                ended = time.perf_counter()
                self.tally.succeed(reading, begun=begun, ended=ended, at=ended - self._begun)
            self._under_way -= 1

    async def _ask(self, index: int) -> Reading:
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
                    return Reading(tokens, times, per_chunk)
