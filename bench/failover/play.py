"""Plays faults through a gateway, and grades what was seen."""

from collections.abc import Sequence

import attrs
import httpx
import trio

from bench.failover.caller import call
from bench.failover.grading import Call, Graded, Observed, Outcome, grade_of
from bench.failover.profiles import Profile
from bench.failover.provider import Provider
from bench.failover.scenarios import OK, OUTAGE_S, SCENARIOS, Scenario

ALIVE = "alive"
"""The gateway's model that is asked after each fault."""
_ALIVE_WITHIN_S = 10.0


@attrs.frozen
class Played:
    """One fault as it was played."""

    scenario: Scenario
    seen: Observed
    result: Graded


def models(provider_url: str, options: str = "", scenarios: Sequence[Scenario] = SCENARIOS) -> dict[str, str]:
    """The gateway's models, and for each the upstreams: one whose name chooses the fault, and a fallback behind it.

    The fallback has the longer context, which the fault S12 asks for.
    """
    shared = f",{options}" if options else ""
    found = {
        one.name: f"openai:{provider_url},model={one.model},context=8192{shared}"
        f"|{provider_url},model={one.fallback},priority=1"
        for one in scenarios
    }
    return found | {ALIVE: f"openai:{provider_url},model={OK}"}


async def play(client: httpx.AsyncClient, provider: Provider, scenario: Scenario, profile: Profile) -> Played:
    """Plays one fault. The provider must get no other request for the model of the fault meanwhile."""
    already = len(provider.attempts)
    began = provider.forget(scenario.model)
    calls: list[Call] = []
    within_s = profile.scaled(scenario.max_wall_s) + 5 * profile.slack_s
    most = 3 * scenario.count if profile.ends_outage and scenario.count > 1 else scenario.count
    for number in range(most):
        await trio.sleep_until(began + number * profile.scaled_outage(scenario.interval_s))
        calls.append(await call(client, scenario.name, within_s, began))
        answered = any(each.is_answered for each in provider.attempts[already:] if each.model == scenario.model)
        if profile.ends_outage and answered:
            break
    ended = trio.current_time()
    alive = await call(client, ALIVE, _ALIVE_WITHIN_S, ended)
    attempts = provider.attempts[already:]
    primary = [each for each in attempts if each.model == scenario.model]
    fallback = [each for each in attempts if each.model == scenario.fallback]
    seen = Observed(
        calls=calls,
        primary_at_s=[each.at_s - began for each in primary],
        primary_answered_at_s=[each.at_s - began for each in primary if each.is_answered],
        fallback_at_s=[each.at_s - began for each in fallback],
        prefills_refused=sum("prefill" in each.action for each in fallback),
        alive_after=alive.outcome is Outcome.SUCCESS and alive.is_complete,
        outage_s=profile.scaled_outage(OUTAGE_S) if scenario.count > 1 else 0.0,
    )
    return Played(scenario, seen, grade_of(seen, scenario.checks, profile, wants_error=scenario.wants_error))


async def play_together(
    client: httpx.AsyncClient, provider: Provider, profile: Profile, scenarios: Sequence[Scenario] = SCENARIOS
) -> list[Played]:
    """Plays faults at the same time, each with a model of its own."""
    found: dict[str, Played] = {}

    async def one(scenario: Scenario) -> None:
        found[scenario.name] = await play(client, provider, scenario, profile)

    async with trio.open_nursery() as nursery:
        for scenario in scenarios:
            nursery.start_soon(one, scenario)
    return [found[scenario.name] for scenario in scenarios]
