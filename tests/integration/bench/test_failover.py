"""failoverbench's sixteen faults against a node, with short times; and how they are graded."""

import attrs
import httpx
import pytest

from bench.failover.__main__ import LIMITS_S, options
from bench.failover.grading import Call, Grade, Observed, Outcome, grade_of
from bench.failover.play import models, play_together
from bench.failover.profiles import FULL, QUICK
from bench.failover.provider import running_provider
from bench.failover.published import PUBLISHED
from bench.failover.scenarios import SCENARIOS
from llmactors.backends.build import serve_model
from llmactors.testing.node import local_node

SCENARIO = {scenario.name: scenario for scenario in SCENARIOS}
GOOD = Call(
    sent_at_s=0, outcome=Outcome.SUCCESS, elapsed_s=1, is_complete=True, words=60, model="fb-ok", has_usage=True
)
ERROR = attrs.evolve(GOOD, outcome=Outcome.ERROR, is_complete=False, words=0, error="no")


@pytest.mark.integration
async def test_gateway_gets_its_grades_in_sixteen_faults() -> None:
    async with running_provider(QUICK) as provider:
        served = models(provider.url, options(LIMITS_S["llmactors, 10 s for a token"], QUICK)).items()
        nodes = local_node(*[serve_model(f"{name}={spec}") for name, spec in served])
        async with nodes as node, httpx.AsyncClient(base_url=node.url, timeout=30, trust_env=False) as client:
            played = await play_together(client, provider, QUICK)
    found = {each.scenario.name: each.result.grade for each in played}
    reasons = {each.scenario.name: each.result.reason for each in played}
    assert [len(each.seen.fallback_at_s) for each in played if each.scenario.name == "S07"] == [1]
    assert found == dict.fromkeys(SCENARIO, Grade.PASS), reasons


@pytest.mark.parametrize(
    ("name", "call", "primary", "grade"),
    [
        ("S01", GOOD, [0.0, 2.0], Grade.PASS),
        ("S01", GOOD, [0.0, 0.6], Grade.PARTIAL),
        ("S01", GOOD, [0.0, 0.1, 0.2], Grade.FAIL),
        ("S02", GOOD, [0.0, 0.4, 1.5], Grade.PASS),
        ("S02", ERROR, [0.0], Grade.SAFE),
        ("S03", GOOD, [0.0], Grade.PARTIAL),
        ("S06", attrs.evolve(GOOD, elapsed_s=101), [0.0], Grade.FAIL),
        ("S06", attrs.evolve(GOOD, elapsed_s=92), [0.0, 30.0], Grade.PARTIAL),
        ("S07", attrs.evolve(GOOD, elapsed_s=21), [0.0], Grade.PARTIAL),
        ("S08", attrs.evolve(GOOD, is_complete=False, words=40), [0.0], Grade.FAIL),
        ("S08", ERROR, [0.0], Grade.SAFE),
        ("S08", attrs.evolve(ERROR, outcome=Outcome.HANG), [0.0], Grade.FAIL),
        ("S11", attrs.evolve(GOOD, has_usage=False), [0.0], Grade.PARTIAL),
        ("S12", GOOD, [0.0, 0.1], Grade.FAIL),
        ("S13", ERROR, [0.0], Grade.PASS),
        ("S13", GOOD, [0.0], Grade.PARTIAL),
        ("S16", attrs.evolve(GOOD, model="alias"), [0.0], Grade.FAIL),
    ],
)
def test_grades_are_those_of_the_catalogue(name: str, call: Call, primary: list[float], grade: Grade) -> None:
    scenario = SCENARIO[name]
    seen = Observed(calls=[call], primary_at_s=primary, fallback_at_s=[1.0])
    assert grade_of(seen, scenario.checks, FULL, wants_error=scenario.wants_error).grade is grade


def test_flapping_provider_is_used_again_in_time() -> None:
    checks = SCENARIO["S15"].checks
    calls = [attrs.evolve(GOOD, sent_at_s=4.0 * number) for number in range(20)]
    seen = Observed(calls=calls, primary_at_s=[0.0, 64.0], primary_answered_at_s=[64.0], outage_s=60)
    for changed, grade in (
        (seen, Grade.PASS),
        (attrs.evolve(seen, primary_answered_at_s=()), Grade.FAIL),
        (attrs.evolve(seen, calls=[ERROR, *calls[1:]]), Grade.FAIL),
    ):
        assert grade_of(changed, checks, FULL, wants_error=False).grade is grade


def test_published_rows_have_their_published_sums() -> None:
    sums = {system: [list(row.values()).count(grade) for grade in Grade] for system, row in PUBLISHED.items()}
    assert all(row.keys() == SCENARIO.keys() for row in PUBLISHED.values())
    assert (sums["Bifrost 2.1.1"], sums["Portkey Gateway"]) == ([9, 3, 3, 1], [11, 2, 0, 3])
    assert (sums["LiteLLM proxy"], sums["openai-python"]) == ([9, 3, 4, 0], [6, 0, 10, 0])
