"""`POST /v1/generate` and `/v1/streams/{id}` over real sockets, against the mock's oracle."""

import contextlib

import httpx
import pytest
import trio

from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.oracle import oracle
from tests.support.raw_http import RawExchange
from tests.support.streams import StreamRecord, follow, read_stream, read_until

pytestmark = pytest.mark.integration


async def test_json_answer_has_the_documented_shape() -> None:
    async with local_node() as node:
        response = await node.client.post("/v1/generate", json={"prompt": "two words", "max_tokens": 7})

        answer = response.json()
        assert response.status_code == 200
        assert answer == {
            "id": response.headers["x-request-id"],
            "model": "mock",
            "text": oracle("two words", 7),
            "finish_reason": "length",
            "usage": {
                "prompt_tokens": 2,
                "completion_tokens": 7,
                "total_tokens": 9,
                "cached_tokens": 0,
            },
        }


async def test_stream_gives_each_token_once_and_one_end() -> None:
    async with local_node() as node:
        record = await read_stream(node.url, {"prompt": "hello", "max_tokens": 50})

        assert record.text == oracle("hello", 50)
        assert record.end_event == "done"
        assert record.end == {
            "id": record.id,
            "seq": 51,
            "finish_reason": "length",
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 50,
                "total_tokens": 51,
                "cached_tokens": 0,
            },
        }


async def test_request_id_comes_in_the_head_before_the_first_token() -> None:
    async with local_node(mock_model("prefill_ms=60000")) as node:
        body = {"prompt": "slow", "stream": True}
        with trio.fail_after(5):  # the head comes at once, and not with the first keep-alive
            opened = await RawExchange.open(node.url, "POST", "/v1/generate", body=body)
        async with opened as exchange:
            assert exchange.headers["x-request-id"].startswith("req_")
            assert exchange.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert exchange.headers["cache-control"] == "no-cache"


async def test_request_id_of_the_caller_is_echoed() -> None:
    async with local_node() as node:
        for path in ("/v1/generate", "/livez", "/nowhere"):
            response = await node.client.request(
                "POST" if "generate" in path else "GET",
                path,
                json={"prompt": "x", "max_tokens": 1},
                headers={"X-Request-Id": "mine-17"},
            )

            assert response.headers["x-client-request-id"] == "mine-17"
            assert response.headers["x-request-id"] != "mine-17"


@pytest.mark.parametrize("cut_at", [1, 5, 29])
async def test_cut_stream_continues_after_last_event_id(cut_at: int) -> None:
    async with local_node(mock_model("step_ms=2")) as node:
        record = await read_until(node.url, {"prompt": "resume me", "max_tokens": 30}, cut_at)

        await read_stream(node.url, {}, record)

        assert record.text == oracle("resume me", 30)
        assert record.end_event == "done"


async def test_after_parameter_works_like_last_event_id() -> None:
    async with local_node() as node:
        whole = await read_stream(node.url, {"prompt": "again", "max_tokens": 9})
        response = await node.client.get(f"/v1/streams/{whole.id}", params={"after": 7})

        assert [line for line in response.text.splitlines() if line.startswith("id:")] == ["id: 8", "id: 9", "id: 10"]


async def test_following_an_ended_stream_past_its_end_is_204() -> None:
    async with local_node() as node:
        whole = await read_stream(node.url, {"prompt": "done", "max_tokens": 3})
        response = await node.client.get(f"/v1/streams/{whole.id}", headers={"Last-Event-ID": "4"})

        assert response.status_code == 204


async def test_delete_cancels_and_ends_the_stream() -> None:
    async with local_node(mock_model("step_ms=5")) as node:
        record = StreamRecord()
        async with contextlib.aclosing(follow(node.url, {"prompt": "stop", "max_tokens": 5000}, record)) as events:
            async for _ in events:
                if record.last_seq == 3:
                    answer = await node.client.delete(f"/v1/streams/{record.id}")
                    assert answer.json() == {"id": record.id, "cancelled": True}

        assert record.end is not None
        assert record.end["finish_reason"] == "cancelled"
        assert (await node.client.delete(f"/v1/streams/{record.id}")).json() == {"id": record.id, "cancelled": False}
        await wait_slots_free(node)


async def test_stream_without_a_reader_is_cancelled_after_its_grace() -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=0.2) as node:
        record = await read_until(node.url, {"prompt": "nobody", "max_tokens": 5000}, 2)
        await wait_slots_free(node)

        await read_stream(node.url, {}, record)
        assert record.end is not None
        assert record.end["finish_reason"] == "cancelled"


async def test_disconnect_cancels_a_json_request_at_once() -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=60) as node:
        with pytest.raises(httpx.ReadTimeout):
            await node.client.post("/v1/generate", json={"prompt": "bye", "max_tokens": 5000}, timeout=0.1)

        await wait_slots_free(node)


async def wait_slots_free(node: LocalNode) -> None:
    await wait_until(lambda: "0 running" in repr(node.node.ledger))


async def test_unknown_stream_is_404_and_expired_stream_is_410() -> None:
    async with local_node(retention_s=0.01) as node:
        response = await node.client.get("/v1/streams/req_nothing")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")

        whole = await read_stream(node.url, {"prompt": "old", "max_tokens": 1})
        await wait_until(lambda: "0 ended" in repr(node.node.ledger))
        response = await node.client.get(f"/v1/streams/{whole.id}")
        assert (response.status_code, response.json()["error"]["code"]) == (410, "EXPIRED")


async def test_deadline_ends_a_request_with_504() -> None:
    async with local_node(mock_model("step_ms=20")) as node:
        body = {"prompt": "late", "max_tokens": 5000, "deadline_ms": 150}
        response = await node.client.post("/v1/generate", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")

        record = await read_stream(node.url, body)
        assert record.end is not None
        assert record.end["error"]["code"] == "DEADLINE_EXCEEDED"


async def test_queue_bound_answers_429_with_retry_after() -> None:
    async with local_node(mock_model("step_ms=50,slots=1"), max_queued=1) as node:
        running = await read_until(node.url, {"prompt": "the slot", "max_tokens": 5000}, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_stream, node.url, {"prompt": "the queue", "max_tokens": 1})
            await wait_until(lambda: "1 queued" in repr(node.node.ledger))
            response = await node.client.post("/v1/generate", json={"prompt": "one too many"})

            assert (response.status_code, response.json()["error"]["code"]) == (429, "OVERLOADED")
            assert int(response.headers["retry-after"]) >= 1
            await node.client.delete(f"/v1/streams/{running.id}")
