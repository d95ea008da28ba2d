"""The load client and a real node, over each kind of route."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from llmactors.load.arrivals import poisson
from llmactors.load.measure import measure
from llmactors.load.plan import Api, Check, Plan
from llmactors.load.target import Target
from llmactors.testing.node import NodeProcess

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    with NodeProcess(
        "--model", "mock:refuse=poison", "--bind", "127.0.0.1:0", environ={"GATEWAY_API_KEY": "k"}
    ) as node:
        node.wait_ready()
        yield node


def run(node: NodeProcess, **plan: Any) -> dict[str, Any]:
    target = Target.parse(node.url)
    chosen = {"check": Check.MOCK, "clients": 5, "requests": 20, "max_tokens": 12, "model": "mock", "key": "k", **plan}
    return measure(Plan(target=target, **chosen), server_pids=(node.process.pid,))


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept", "new connections"])
@pytest.mark.parametrize(
    ("api", "stream"),
    [*((api, api is not Api.NATIVE_JSON) for api in Api), (Api.CHAT, False), (Api.COMPLETIONS, False)],
)
def test_every_token_of_every_answer_is_right(node: NodeProcess, api: Api, stream: bool, keep_alive: bool) -> None:
    result = run(node, api=api, stream=stream, keep_alive=keep_alive)

    assert (result["correct"], result["errors"], result["ended"]) == (20, {}, "complete"), result["examples"]
    assert result["tokens"] == 20 * 12
    assert result["latency_s"]["count"] == 20
    if stream:
        assert result["ttft_s"]["count"] == 20
        assert result["token_gap_s"]["count"] == 20 * 11
        assert 0 < result["ttft_s"]["max"] <= result["latency_s"]["max"]
    assert result["client"]["connections"] == (5 if keep_alive else 20)
    assert result["server"]["resident_bytes"] > 0
    assert sum(second.get("correct", 0) for second in result["timeline"]) == 20


@pytest.mark.parametrize("api", list(Api))
def test_refusal_has_its_class(node: NodeProcess, api: Api) -> None:
    result = run(node, api=api, model="nosuch", requests=6)
    assert (result["correct"], result["errors"]) == (0, {"refused": 6} if api is Api.WS else {"http_404": 6})
    assert sum(result["error_codes"].values()) == 6


@pytest.mark.parametrize("api", [Api.NATIVE, Api.WS])
def test_wrong_key_has_its_class(node: NodeProcess, api: Api) -> None:
    """A few requests only: the node locks out an address that tries many keys."""
    result = run(node, api=api, key="wrong", requests=1)
    assert (result["correct"], result["errors"]) == (0, {"http_401": 1})
    assert result["error_codes"] == {"http_401 UNAUTHENTICATED": 1}


@pytest.mark.parametrize("api", [Api.NATIVE, Api.WS])
def test_error_in_the_stream_has_its_class_and_code(node: NodeProcess, api: Api) -> None:
    result = run(node, api=api, prompt="poison", requests=4)
    assert result["errors"] == {"stream_error": 4}
    assert result["error_codes"] == {"stream_error BACKEND_FAILED": 4}


def test_error_before_the_stream_has_its_status_and_code(node: NodeProcess) -> None:
    result = run(node, api=Api.CHAT, prompt="poison", requests=4)
    assert result["errors"] == {"http_502": 4}
    assert result["error_codes"] == {"http_502 backend_failed": 4}


def test_open_loop_follows_its_schedule(node: NodeProcess) -> None:
    result = run(node, rate=100.0, seed=7, requests=30, clients=200)
    assert (result["correct"], result["errors"]) == (30, {})
    loop = result["open_loop"]
    assert (loop["sent"], loop["held_back"]) == (30, 0)
    last = next(itertools.islice(poisson(100.0, 7), 29, None))
    assert result["seconds"] >= last
    # Idle connections are reused.
    assert result["client"]["connections"] <= 30


def test_requests_under_way_end_after_the_time_given(node: NodeProcess) -> None:
    result = run(node, seconds=0.3, requests=1_000_000)
    assert result["errors"] == {}
    assert 0 < result["correct"] < 1_000_000
    assert result["seconds"] >= 0.3


def test_ramp_and_warm_up_change_no_count(node: NodeProcess) -> None:
    target = Target.parse(node.url)
    plan = Plan(target=target, clients=4, requests=8, ramp_s=0.2, max_tokens=3, key="k", check=Check.MOCK)
    result = measure(plan, warmup=4)
    assert (result["correct"], result["errors"]) == (8, {})
    assert result["seconds"] >= 0.15
