"""`usage` as an operator meets the command, and the routes behind it: sums, exports and mistakes."""

import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import attrs
import pytest
import trio

from llmactors.cli import run
from llmactors.config import DeclaredPrice
from llmactors.ledger.redis import RedisLedger
from llmactors.testing.ledger_suite import finished, request
from llmactors.testing.node import LocalNode, local_node
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

PRICES = {"mock": DeclaredPrice(prompt=1.0, completion=100.0)}


@attrs.frozen
class Answer:
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


Usage = Callable[..., Awaitable[Answer]]


@pytest.fixture
def usage(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Usage:
    """Runs `llmactors usage …` in a thread of this process, beside the node of the test."""
    for name in ("LLMACTORS_REDIS", "LLMACTORS_URL", "GATEWAY_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    async def types(*arguments: str) -> Answer:
        capfd.readouterr()
        code = await trio.to_thread.run_sync(run, ["usage", *arguments])
        return Answer(code, *capfd.readouterr())

    return types


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(prices=PRICES) as node:
        for length in (3, 5):
            body = {"prompt": "8 bytes.", "max_tokens": length}
            assert (await node.client.post("/v1/generate", json=body)).status_code == 200
        yield node


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(appendfsync="no") as running:
        yield running


async def test_sums_of_a_node_are_shown(node: LocalNode, usage: Usage) -> None:
    url = ("--url", str(node.client.base_url))
    shown = await usage(*url)
    assert shown.returncode == 0, shown.stderr
    assert "anonymous" in shown.stdout
    assert "2 requests" in shown.stdout
    found = json.loads((await usage("show", "--by", "model", "--since", "1h", "--json", *url)).stdout)
    [row] = found["rows"]
    assert (row["model"], row["requests"], row["completion_tokens"], row["tenant"]) == ("mock", 2, 8, None)
    assert float(row["cost"]) == pytest.approx((row["prompt_tokens"] + 800) / 1e6)
    assert found["total"]["cost"] == row["cost"]
    for by in ("hour", "day", "key"):
        found = json.loads((await usage("show", "--by", by, "--json", *url)).stdout)
        assert found["total"]["completion_tokens"] == 8


async def test_export_has_a_row_for_each_request(node: LocalNode, usage: Usage) -> None:
    url = ("--url", str(node.client.base_url))
    rows = list(csv.DictReader(io.StringIO((await usage("export", *url)).stdout)))
    assert [(row["code"], row["class"], row["completion_tokens"]) for row in rows] == [
        ("length", "1", "3"),
        ("length", "1", "5"),
    ]
    lines = (await usage("export", "--format", "jsonl", "--by", "tenant", *url)).stdout.splitlines()
    assert [json.loads(line)["requests"] for line in lines] == [2]
    assert "model" not in json.loads(lines[0])


async def test_records_come_by_pages_of_the_route(node: LocalNode) -> None:
    first = (await node.client.get("/v1/operator/usage/records", params={"limit": 1})).json()
    second = (await node.client.get("/v1/operator/usage/records", params={"after": first["next"]})).json()
    assert [page["records"][0]["completion_tokens"] for page in (first, second)] == [3, 5]
    assert second["next"] is None
    one = second["records"][0]
    found = await node.client.get("/v1/operator/usage/records", params={"id": one["id"]})
    assert found.json() == {"records": [one], "next": None}
    none = await node.client.get("/v1/operator/usage/records", params={"id": "req_none"})
    assert none.json() == {"records": [], "next": None}
    for query in ({"limit": 1001}, {"after": "x"}, {"since": "x"}, {"until": "null"}):
        answer = await node.client.get("/v1/operator/usage/records", params=query)
        assert answer.status_code == 400, answer.text
        assert next(iter(query)) in answer.json()["error"]["message"]
    assert (await node.client.get("/v1/operator/usage", params={"by": "x"})).status_code == 400


async def test_usage_of_a_cluster_is_read_from_redis(server: RedisServer, usage: Usage) -> None:
    async with trio.open_nursery() as nursery:
        ledger = RedisLedger(server.url)
        await nursery.start(ledger.run)
        await ledger.submit(request("r", tenant="t"))
        await ledger.beat("w")
        [claim] = await ledger.claim("w", "m", 1)
        await ledger.finish("r", claim.epoch, finished(4))
        redis = ("--redis", server.url)
        found = json.loads((await usage("show", "--json", *redis)).stdout)
        assert [(row["tenant"], row["completion_tokens"]) for row in found["rows"]] == [("t", 4)]
        exported = json.loads((await usage("export", "--format", "jsonl", *redis)).stdout)
        assert (exported["id"], exported["prompt_tokens"]) == ("r", 3)
        nursery.cancel_scope.cancel(reason="all is seen")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--since", "yesteryear"), "`since` must be `today`"),
        (("--since", "2026-01-02", "--until", "2026-01-01"), "is not before"),
        (("--url", "http://127.0.0.1:9"), "no node answers"),
    ],
)
async def test_mistake_is_one_line(usage: Usage, arguments: tuple[str, ...], says: str) -> None:
    answer = await usage(*arguments)
    assert answer.returncode in {1, 2}
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1
