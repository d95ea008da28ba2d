"""The upstream of the proxies answers as a server of the simulated model does."""

import json

import httpx
import pytest

from bench.proxy_kills import expected_tokens
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


def test_upstream_goes_on_behind_what_the_assistant_said() -> None:
    tokens = expected_tokens("kill 3", 3)
    said = [
        {"role": "user", "content": "kill 3"},
        {"role": "system", "content": "Continue the answer."},
        {"role": "assistant", "content": "".join(tokens[:7])},
    ]
    with run_upstream(0, length=10) as upstream:
        body = {"model": UPSTREAM_MODEL, "messages": said, "seed": 3, "max_tokens": 40, "stream": True}
        lines = httpx.post(f"{upstream.url}/v1/chat/completions", json=body, trust_env=False).text.splitlines()
        made = httpx.get(f"{upstream.url}/made", trust_env=False).json()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    assert [choice["delta"]["content"] for choice in choices if choice["delta"]["content"]] == tokens[7:10]
    assert choices[-1]["finish_reason"] == "stop"
    assert made == 1 + 3, "the probe's token, and the rest of the answer"
