"""The kills, and the judgement on all answers. Other processes tell nothing of their progress, so they are polled."""

import random
import sys
from collections.abc import Sequence

import attrs
import httpx
import trio

from llmactors.config import Settings
from llmactors.testing.cluster import Cluster, ClusterSettings
from tests.chaos.structured.cases import Case
from tests.chaos.structured.cuts import Ended, LedgerView
from tests.chaos.structured.reader import Reader

FORMATS = ("hermes", "llama3", "mistral")
_POLL_S = 0.05
_ROUND_S = 240.0
"""How long it may take until every answer has gone on to its next cut."""


@attrs.define
class Outcome:
    """What one run has shown."""

    readers: list[Reader]
    workers_killed: int = 0
    gateways_killed: int = 0
    rounds: int = 0
    cuts: dict[str, list[int]] = attrs.field(factory=dict)
    """Request -> behind which of its tokens the worker was killed."""
    ended: dict[str, Ended] = attrs.field(factory=dict)
    tracebacks: list[str] = attrs.field(factory=list)

    @property
    def takeovers(self) -> int:
        """How often a request was taken over."""
        return sum(map(len, self.cuts.values()))

    def cuts_of(self, reader: Reader) -> list[int]:
        """Behind which of its tokens the worker of a request was killed."""
        return self.cuts.get(reader.request_id, [])


def _cluster(every: int) -> ClusterSettings:
    models = [(f"cut-{form}", f"step_ms=2,slots=400,hold_every={every},tool_format={form}") for form in FORMATS]
    models += [(f"whole-{form}", f"slots=400,tool_format={form}") for form in FORMATS]
    (name, options), *others = models
    return ClusterSettings(
        gateways=2,
        workers=2,
        start_s=120,
        model=f"{name}=mock:{options}",
        worker_arguments=[text for name, options in others for text in ("--model", f"{name}=mock:{options}")],
        settings={
            # Each kill counts an attempt. With the usual bound, a request whose workers died that often is given up.
            "quarantine_from_attempt": 1000,
            # A killed worker is replaced when it comes back, and a client comes back at once. So nothing ends by time,
            # also on a busy machine.
            "lease_s": 300,
            "resume_grace_s": 300,
            "retention_s": 3600,
            "log_level": "error",
        },
    )


async def run(cases: Sequence[Case], *, every: int, seed: int) -> Outcome:
    """Asks all cases at once, and kills all workers whenever each answer has `every` more tokens.

    A gateway is killed in each second round. `seed` chooses which. Afterwards each stream is asked for again at the
    other gateway, and compared with that of a request that nothing disturbed.
    """
    rng = random.Random(seed)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with Cluster(_cluster(every)) as cluster, httpx.AsyncClient(limits=limits, timeout=60) as http:
        urls = cluster.gateway_urls
        await _wait_serving(http, urls)
        whole = [Reader(case, f"whole-{case.form}", f"whole {at}", urls, at % 2) for at, case in enumerate(cases)]
        await _read_all(http, whole)
        outcome = Outcome(
            [Reader(case, f"cut-{case.form}", f"cut {at}", urls, at % 2) for at, case in enumerate(cases)]
        )
        with cluster.client() as client:
            ledger = LedgerView(client, Settings().namespace)
            async with trio.open_nursery() as nursery:
                for reader in outcome.readers:
                    nursery.start_soon(reader.run, http)
                await _kill_until_done(cluster, ledger, outcome, every, rng)
            for member in cluster.members:
                await member.wait_ready()
            outcome.ended = {
                reader.request_id: ledger.ended(reader.request_id) for reader in outcome.readers if not reader.problems
            }
        async with trio.open_nursery() as nursery:
            for reader in outcome.readers:
                if not reader.problems:
                    nursery.start_soon(reader.replay, http)
        outcome.tracebacks = cluster.tracebacks()
    for reader, undisturbed in zip(outcome.readers, whole, strict=True):
        _judge(outcome, reader, undisturbed, every)
    return outcome


async def _wait_serving(http: httpx.AsyncClient, urls: Sequence[str]) -> None:
    with trio.fail_after(_ROUND_S):
        for url in urls:
            while (await http.get(url + "/readyz")).status_code != httpx.codes.OK:  # noqa: ASYNC110
                await trio.sleep(_POLL_S)


async def _read_all(http: httpx.AsyncClient, readers: Sequence[Reader]) -> None:
    async with trio.open_nursery() as nursery:
        for reader in readers:
            nursery.start_soon(reader.run, http)


async def _kill_until_done(
    cluster: Cluster, ledger: LedgerView, outcome: Outcome, every: int, rng: random.Random
) -> None:
    while True:
        with trio.fail_after(_ROUND_S):
            while (held := await trio.to_thread.run_sync(_held, ledger, outcome, every)) is None:  # noqa: ASYNC110
                await trio.sleep(_POLL_S)
        if not held:
            return
        outcome.rounds += 1
        for request, tokens in held.items():
            outcome.cuts.setdefault(request, []).append(tokens)
        victims = [*cluster.workers, *([rng.choice(cluster.gateways)] if outcome.rounds % 2 == 0 else [])]
        print(f"round {outcome.rounds}: {len(held)} answers are cut", file=sys.stderr, flush=True)
        starts = {victim.name: victim.starts for victim in victims}
        for victim in victims:
            if not victim.kill():
                raise RuntimeError(f"{victim} was not there to be killed")
            outcome.workers_killed += victim.role == "worker"
            outcome.gateways_killed += victim.role == "gateway"
        with trio.fail_after(_ROUND_S):
            for victim in victims:
                await victim.wait_ready(starts[victim.name] + 1)


def _held(ledger: LedgerView, outcome: Outcome, every: int) -> dict[str, int] | None:
    """The length of the log of each running request. None while any of them is on its way to the next cut."""
    running = ledger.running()
    found = {}
    for reader in outcome.readers:
        if reader.done or reader.problems:
            continue
        now = running.get(reader.request_id)
        if now is None or now.tokens % every or now.tokens <= max(outcome.cuts_of(reader), default=0):
            return None
        found[reader.request_id] = now.tokens
    return found


def _judge(outcome: Outcome, reader: Reader, undisturbed: Reader, every: int) -> None:
    """Notes all problems of one answer at its reader."""
    if undisturbed.problems:
        reader.problems.append(f"without kills: {undisturbed.problems[0]}")
    if reader.problems:
        return
    if reader.plain_events() != undisturbed.plain_events():
        reader.problems.append("the answer is not equal to the undisturbed one")
    if found := reader.case.problem(reader.events):
        reader.problems.append(found)
    ended, cuts = outcome.ended[reader.request_id], outcome.cuts_of(reader)
    if cuts != [*range(every, ended.tokens, every)]:
        reader.problems.append(f"the answer of {ended.tokens} tokens was cut behind {cuts}")
    if ended.attempts != len(cuts) + 1:
        reader.problems.append(f"{ended.attempts} workers claimed the request, which was cut {len(cuts)} times")
