"""The same faults over Redis, while the worker or the gateway that serves the caller is killed by SIGKILL.

The caller names its calls by an `Idempotency-Key`. Where its connection breaks, the caller asks the other gateway with
the same key, and reads the answer from its beginning: an answer is complete only where each word comes once.
"""

import contextlib
import itertools
import uuid
from collections.abc import Sequence
from typing import Literal

import attrs
import httpx
import psutil
import trio

from bench.failover.caller import read_chat
from bench.failover.grading import Call, Graded, Observed, Outcome, grade_of
from bench.failover.play import Played, models
from bench.failover.profiles import Profile
from bench.failover.provider import Provider
from bench.failover.scenarios import OUTAGE_S, SCENARIOS, Scenario
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.managed_process import ManagedProcess, poll_until

Victim = Literal["worker", "gateway"]
_KILL_AFTER_S = 0.35
"""From the first request at the provider to the kill: a stream is in its middle then."""
_PAUSE_S = 0.1
_START_S = 120.0
_TAKEOVER_S = 10.0
"""What is added to every limit: the time until another process goes on, on a busy machine."""
_ATTEMPTS_DIFFER = {"no_same_model_retry", "bounded_attempts", "no_hammer", "silent_route_not_retried"}
"""Checks that a kill makes meaningless: the next worker has to ask the provider again."""


async def play_with_kills(
    provider: Provider, options: str, profile: Profile, victim: Victim, scenarios: Sequence[Scenario] = SCENARIOS
) -> list[Played]:
    """Plays the faults one after the other, with one kill in each."""
    served = [f"{name}={spec}" for name, spec in models(provider.url, options, scenarios).items()]
    more = [part for each in served[1:] for part in ("--model", each)]
    settings = ClusterSettings(gateways=2, workers=2, model=served[0], worker_arguments=more, start_s=_START_S)
    played: list[Played] = []
    async with Cluster(settings) as cluster:
        for scenario in scenarios:
            await _wait_known(cluster.gateway_urls)
            played.append(await _play(cluster, provider, scenario, profile, victim))
            print(f"  {scenario.name} {played[-1].result.grade.value} {played[-1].result.reason}", flush=True)
            await cluster.wait_ready()
    return played


async def _wait_known(urls: Sequence[str]) -> None:
    """Waits until every gateway knows a worker: a gateway that has just started refuses requests."""
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        for url in urls:
            with trio.fail_after(_START_S):
                while (await client.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110 - another process
                    await trio.sleep(_PAUSE_S)


async def _play(cluster: Cluster, provider: Provider, scenario: Scenario, profile: Profile, victim: Victim) -> Played:
    already, began = len(provider.attempts), provider.forget(scenario.model)
    within_s = profile.scaled(scenario.max_wall_s) + 10 * profile.slack_s
    calls: list[Call] = []

    async def kill() -> None:
        await poll_until(lambda: len(provider.attempts) > already, every_s=0.01)
        await trio.sleep(_KILL_AFTER_S + profile.scaled_outage(scenario.interval_s) * scenario.count / 4)
        member = _serving(cluster, provider.attempts[-1].port) if victim == "worker" else cluster.gateways[0]
        member.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        for number in range(scenario.count):
            await trio.sleep_until(began + number * profile.scaled_outage(scenario.interval_s))
            calls.append(await _call(cluster.gateway_urls, scenario.name, within_s, began))
        nursery.cancel_scope.cancel(reason="the fault is over")
    primary = [each for each in provider.attempts[already:] if each.model == scenario.model]
    seen = Observed(
        calls=calls,
        primary_at_s=[each.at_s - began for each in primary],
        primary_answered_at_s=[each.at_s - began for each in primary if each.is_answered],
        fallback_at_s=[each.at_s - began for each in provider.attempts[already:] if each.model == scenario.fallback],
        outage_s=profile.scaled_outage(OUTAGE_S) if scenario.count > 1 else 0.0,
    )
    checks = [check for check in scenario.checks if check.name not in _ATTEMPTS_DIFFER]
    patient = attrs.evolve(profile, slack_s=profile.slack_s + _TAKEOVER_S)
    result: Graded = grade_of(seen, checks, patient, wants_error=scenario.wants_error)
    return Played(scenario, seen, result)


def _serving(cluster: Cluster, port: int) -> ManagedProcess:
    """The worker that has a connection from this port; the first one where none has."""
    for worker in cluster.workers:
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(worker.pid).net_connections("tcp")
            if any(getattr(each.laddr, "port", 0) == port for each in connections):
                return worker
    return cluster.workers[0]


async def _call(urls: Sequence[str], model: str, within_s: float, began: float) -> Call:
    sent, key = trio.current_time(), str(uuid.uuid4())
    outcome, answer, error = Outcome.HANG, None, ""
    with trio.move_on_after(within_s):
        for url in itertools.cycle(urls):
            try:
                async with httpx.AsyncClient(base_url=url, timeout=within_s, trust_env=False) as client:
                    answer = await read_chat(client, model, {"Idempotency-Key": key})
            except httpx.HTTPError as broken:
                error = f"{type(broken).__name__}: {broken}"
                await trio.sleep(_PAUSE_S)
                continue
            if answer.error or answer.is_done:
                break
        error = answer.error if answer is not None else error
        outcome = Outcome.ERROR if error else Outcome.SUCCESS
    if answer is None:
        return Call(sent_at_s=sent - began, outcome=outcome, elapsed_s=trio.current_time() - sent, error=error)
    return answer.as_call(outcome, sent - began, trio.current_time() - sent)
