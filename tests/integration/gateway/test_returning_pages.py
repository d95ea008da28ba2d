"""A page that lost its connection goes on after its last event, by `fetch` and by `EventSource`."""

from typing import Any

import httpx
import pytest

from llmactors.testing.event_socket import EventSocket
from llmactors.testing.node import LocalNode, local_node, mock_model
from tests.integration.gateway.conftest import Tenants

pytestmark = pytest.mark.integration

CALL: dict[str, Any] = {"prompt": "once", "max_tokens": 12, "stream": True}


def ids(answer: httpx.Response) -> list[int]:
    """The ids of the events of a stream."""
    return [int(line[4:]) for line in answer.text.splitlines() if line.startswith("id: ")]


async def post(node: LocalNode, last: str | None = None, key: str | None = "k", **changes: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Last-Event-ID": last}
    given = {name: value for name, value in headers.items() if value is not None}
    return await node.client.post("/v1/generate", json={**CALL, **changes}, headers=given)


async def ticket_of(node: LocalNode, headers: dict[str, str] | None = None) -> str:
    answer = await node.client.post("/v1/ws/tickets", headers=headers)
    return str(answer.json()["ticket"])


async def accepted(node: LocalNode) -> int:
    return (await node.node.ledger.statistics()).accepted_total


async def test_repeated_post_goes_on_after_the_last_event() -> None:
    async with local_node(mock_model("step_ms=1")) as node:
        first = await post(node)
        assert ids(first) == list(range(1, 14))
        for last in ("8", "12"):
            again = await post(node, last)
            assert (again.status_code, ids(again)) == (200, list(range(int(last) + 1, 14)))
            assert again.headers["x-request-id"] == first.headers["x-request-id"]
            assert first.text.endswith(again.text.removeprefix("retry: 1000\n\n"))
        assert await accepted(node) == 1


async def test_post_goes_on_with_a_stream_that_still_runs() -> None:
    async with local_node(mock_model("step_ms=20")) as node:
        seen: list[int] = []
        opening = EventSocket.open(node.url, "POST", "/v1/generate", body=CALL, headers={"idempotency-key": "k"})
        async with await opening as left:
            while len(seen) < 5:
                seen += [event.seq or 0 for event in await left.events()]
        again = await post(node, f"{seen[-1]}")
        assert [*seen, *ids(again)] == list(range(1, 14))


async def test_post_after_the_last_event_of_all_is_an_empty_stream() -> None:
    """A script takes any other answer for a failure, and would ask again and again."""
    async with local_node() as node:
        await post(node)
        for last in ("13", "99"):
            again = await post(node, last)
            assert (again.status_code, again.text) == (200, "")
            assert again.headers["content-type"].startswith("text/event-stream")


async def test_post_never_goes_on_with_another_answer() -> None:
    """A stream that is no longer kept, or never was, cannot be made anew from its middle."""
    async with local_node() as node:
        never = await post(node, "8", key="never used")
        assert (never.status_code, never.json()["error"]["code"]) == (410, "EXPIRED")
        assert await accepted(node) == 0
        await post(node)
        other = await post(node, "8", prompt="another")
        assert other.status_code == 409
        assert await accepted(node) == 1


async def test_last_event_id_without_a_key_begins_anew() -> None:
    async with local_node() as node:
        for last in ("8", "none", ""):
            assert ids(await post(node, last, key=None)) == list(range(1, 14))
        whole = await post(node, "8", stream=False)
        assert whole.json()["usage"]["completion_tokens"] == 12
        assert (await post(node, "none")).status_code == 400
        assert ids(await post(node, "0", key="fresh")) == list(range(1, 14))


@pytest.mark.parametrize(
    ("query", "header", "begins"),
    [("", "8", 9), ("after=8", None, 9), ("after=0", "8", 9), ("after=8", "3", 9), ("after=3", "8", 9)],
)
async def test_later_of_both_places_counts(query: str, header: str | None, begins: int) -> None:
    """An `EventSource` that reconnects sends its first URL again, and its last event in a header."""
    async with local_node() as node:
        made = await post(node)
        headers = {} if header is None else {"last-event-id": header}
        answer = await node.client.get(f"/v1/streams/{made.headers['x-request-id']}?{query}", headers=headers)
        assert ids(answer)[0] == begins


async def test_ticket_opens_its_stream_again_and_nothing_else(tenants: Tenants) -> None:
    tenants.add("acme", "other")
    async with local_node(keys=str(tenants.path), max_auth_failures=0) as node:
        acme, other = tenants.headers("acme"), tenants.headers("other")
        made = [
            (await node.client.post("/v1/generate", json=CALL, headers=acme)).headers["x-request-id"] for _ in range(2)
        ]
        own = f"/v1/streams/{made[0]}?ticket={await ticket_of(node, acme)}&after=0"
        for last in (0, 5, 12):
            answer = await node.client.get(own, headers={"last-event-id": f"{last}"})
            assert (answer.status_code, ids(answer)) == (200, list(range(last + 1, 14)))
        # An `EventSource` takes 204 for the end, and asks no more.
        assert (await node.client.get(own, headers={"last-event-id": "13"})).status_code == 204
        assert (await node.client.get(own.replace(made[0], made[1]))).status_code == 401
        assert (await node.client.delete(own)).status_code == 401
        ticket = own.partition("ticket=")[2].partition("&")[0]
        for path in ("/v1/models", "/v1/tree", f"/v1/ws?ticket={ticket}", f"/v1/models?ticket={ticket}"):
            assert (await node.client.get(path)).status_code in {400, 401}
        strange = f"/v1/streams/{made[0]}?ticket={await ticket_of(node, other)}"
        assert (await node.client.get(strange)).status_code == 404
        assert (await node.client.get(f"/v1/streams/{made[0]}?ticket=wrong")).status_code == 401


async def test_ticket_works_without_keys() -> None:
    async with local_node() as node:
        made = await post(node)
        path = f"/v1/streams/{made.headers['x-request-id']}?ticket={await ticket_of(node)}"
        assert ids(await node.client.get(path)) == list(range(1, 14))


async def test_ticket_ends_with_the_key(tenants: Tenants) -> None:
    tenants.add("acme")
    async with local_node(keys=str(tenants.path)) as node:
        acme = tenants.headers("acme")
        made = (await node.client.post("/v1/generate", json=CALL, headers=acme)).headers["x-request-id"]
        path = f"/v1/streams/{made}?ticket={await ticket_of(node, acme)}"
        assert (await node.client.get(path)).status_code == 200
        tenants.add("acme")  # gives the tenant another key
        assert (await node.client.get(path)).status_code == 401
