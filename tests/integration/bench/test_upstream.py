"""The upstream of the proxies answers as a server of the simulated model does."""

import pytest

from bench.servers import UPSTREAM_MODEL, run_upstream
from llmactors.load.measure import measure
from llmactors.load.plan import Api, Check, Plan
from llmactors.load.target import Target

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
@pytest.mark.parametrize("step_ms", [0, 5])
def test_upstream_makes_the_tokens_of_the_model(api: Api, step_ms: float) -> None:
    with run_upstream(step_ms) as upstream:
        plan = Plan(
            target=Target.parse(upstream.url),
            api=api,
            model=UPSTREAM_MODEL,
            check=Check.MOCK,
            clients=4,
            requests=12,
            max_tokens=8,
        )
        found = measure(plan)
    assert (found["correct"], found["failed"]) == (12, 0), found["errors"]
    assert found["tokens"] == 12 * 8
