"""`/v1/responses` with the official client: stored, resumed and background responses."""

import json
from typing import Any

import openai
import pytest
import trio
from openai.types.responses import Response, ResponseStreamEvent

from llmactors.backends.mock.oracle import mock_text
from llmactors.gateway.openai.responses.stored import StoredResponse
from llmactors.messages import ChatMessage, GenerateRequest
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until

pytestmark = [
    pytest.mark.integration,
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

ASK: dict[str, Any] = {"model": "mock", "input": "Why is the sky blue?"}


def text(max_tokens: int, *, instructions: str = "") -> str:
    system = (ChatMessage("system", instructions),) if instructions else ()
    messages = (*system, ChatMessage("user", ASK["input"]))
    return mock_text(GenerateRequest("", "mock", "", messages=messages, max_tokens=max_tokens))


def client_of(node: LocalNode, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key=key, max_retries=0)


async def events_of(stream: Any) -> list[ResponseStreamEvent]:
    return [event async for event in stream]


async def until_over(client: openai.AsyncOpenAI, response_id: str) -> Response:
    while True:
        response = await client.responses.retrieve(response_id)
        if response.status not in {"queued", "in_progress"}:
            return response
        await trio.sleep(0.01)


def deltas(events: list[ResponseStreamEvent]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_response_has_text_status_and_usage(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(
        **ASK, instructions="Be brief.", max_output_tokens=6, temperature=0.5, metadata={"a": "b"}
    )
    assert response.output_text == text(6, instructions="Be brief.")
    assert (response.status, response.object, response.model) == ("incomplete", "response", "mock")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert (response.instructions, response.metadata, response.temperature) == ("Be brief.", {"a": "b"}, 0.5)
    assert response.usage is not None
    assert response.usage.output_tokens == 6
    assert response.usage.total_tokens == response.usage.input_tokens + 6
    assert response._request_id is not None
    assert response.id.removeprefix("resp_") == response._request_id.removeprefix("req_")
    assert await client.responses.retrieve(response.id) == response


async def test_output_of_a_response_is_accepted_as_input(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(**ASK, max_output_tokens=3)
    conversation: list[Any] = [
        {"role": "user", "content": ASK["input"]},
        *(item.to_dict() for item in first.output),
        {"role": "user", "content": [{"type": "input_text", "text": "Go on."}]},
    ]
    second = await client.responses.create(model="mock", input=conversation, max_output_tokens=3)
    messages = (
        ChatMessage("user", ASK["input"]),
        ChatMessage("assistant", first.output_text),
        ChatMessage("user", "Go on."),
    )
    assert second.output_text == mock_text(GenerateRequest("", "mock", "", messages=messages, max_tokens=3))


async def test_openai_stream_helper_reads_the_stream(client: openai.AsyncOpenAI) -> None:
    """The helper insists on the order of the events, and on a complete answer."""
    whole = text(40)
    stop = whole[60:68]
    async with client.responses.stream(**ASK, max_output_tokens=40, extra_body={"stop": stop}) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == whole[: whole.index(stop)]
    assert final.status == "completed"
    assert events[-1].type == "response.completed"


async def test_stream_has_only_event_and_data_lines() -> None:
    async with local_node(mock_model("step_ms=30"), keep_alive_s=0.01) as node:
        answer = await node.client.post("/v1/responses", json={**ASK, "max_output_tokens": 3, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"].startswith("req_")
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    # In between, comments keep the connection alive.
    assert ": keep-alive" in blocks
    blocks = [block for block in blocks if block != ": keep-alive"]
    assert [[line.partition(": ")[0] for line in block.split("\n")] for block in blocks] == [["event", "data"]] * 11


async def test_reconnecting_client_gets_exactly_the_rest(client: openai.AsyncOpenAI) -> None:
    """This holds during the response and after its end, after any event, and with the client's own helper."""
    stream = await client.responses.create(**ASK, max_output_tokens=30, stream=True, background=True)
    seen: list[ResponseStreamEvent] = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 12:
            break
    await stream.close()
    assert seen[0].type == "response.created"
    response_id = seen[0].response.id
    rest = await events_of(await client.responses.retrieve(response_id, stream=True, starting_after=11))
    events = seen + rest
    assert [event.sequence_number for event in events] == list(range(38))
    assert deltas(events) == text(30)

    assert await events_of(await client.responses.retrieve(response_id, stream=True)) == events
    for after in (0, 1, 3, 4, 33, 36, 37, 500):
        again = await events_of(await client.responses.retrieve(response_id, stream=True, starting_after=after))
        assert again == events[after + 1 :]
    async with client.responses.stream(response_id=response_id, starting_after=30) as helper:
        assert [event.sequence_number async for event in helper] == list(range(31, 38))


async def test_reader_ahead_of_the_log_waits_for_later_events(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(**ASK, max_output_tokens=40, background=True)
    rest = await events_of(await client.responses.retrieve(response.id, stream=True, starting_after=30))
    assert [event.sequence_number for event in rest] == list(range(31, 48))
    last = rest[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == text(40)


async def test_background_response_is_returned_at_once_as_queued() -> None:
    async with local_node(mock_model("step_ms=5,slots=1")) as node, client_of(node) as client:
        first = await client.responses.create(**ASK, max_output_tokens=30, background=True, metadata={"job": "1"})
        second = await client.responses.create(**ASK, max_output_tokens=2, background=True)
        assert (first.status, first.output, first.background) == ("queued", [], True)
        await wait_until(lambda: "1 running" in repr(node.node.ledger))
        assert (await client.responses.retrieve(second.id)).status == "queued"
        seen = {(await client.responses.retrieve(first.id)).status}
        part = ""
        while not part:
            now = await client.responses.retrieve(first.id)
            seen.add(now.status)
            part = now.output_text
        assert seen == {"in_progress"}
        assert text(30).startswith(part)
        assert len(part) < len(text(30))
        ended = await until_over(client, first.id)
        assert (ended.status, ended.output_text, ended.metadata) == ("incomplete", text(30), {"job": "1"})
        assert ended.created_at == first.created_at
        assert (await until_over(client, second.id)).output_text == text(2)


async def test_background_response_outlives_its_reader_and_the_grace() -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=0.02) as node, client_of(node) as client:
        stream = await client.responses.create(**ASK, max_output_tokens=60, background=True, stream=True)
        response_id = ""
        async for event in stream:
            if event.type == "response.created":
                response_id = event.response.id
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        assert (await until_over(client, response_id)).output_text == text(60)


async def test_background_response_is_cancelled_after_background_s() -> None:
    async with local_node(mock_model("step_ms=5"), background_s=0.1) as node, client_of(node) as client:
        response = await client.responses.create(**ASK, max_output_tokens=5000, background=True)
        assert (await until_over(client, response.id)).status == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnect_frees_the_slot_of_a_foreground_response(
    node: LocalNode, client: openai.AsyncOpenAI, stream: bool
) -> None:
    async def ask() -> None:
        answer: Any = await client.responses.create(**ASK, max_output_tokens=5000, stream=stream)
        async for _ in answer:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_until(lambda: "1 running" in repr(node.node.ledger))
        nursery.cancel_scope.cancel(reason="the client goes")
    await wait_until(lambda: "0 running" in repr(node.node.ledger), within_s=1.0)


async def test_cancel_ends_a_response_once(node: LocalNode, client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(**ASK, max_output_tokens=5000, background=True)
    events: list[ResponseStreamEvent] = []

    async def follow() -> None:
        events.extend(await events_of(await client.responses.retrieve(response.id, stream=True)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await wait_until(lambda: "1 running" in repr(node.node.ledger))
        await trio.sleep(0.05)
        cancelled = await client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert "0 running" in repr(node.node.ledger)
    assert await client.responses.cancel(response.id) == cancelled
    assert await client.responses.retrieve(response.id) == cancelled
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.status == "cancelled"
    assert deltas(events) == cancelled.output_text


async def test_cancel_after_the_end_returns_the_response(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(**ASK, max_output_tokens=2)
    assert await client.responses.cancel(response.id) == response


async def test_unfinished_response_ends_with_its_error() -> None:
    async with local_node(mock_model("step_ms=1,crash_at=3,crash_prompt=sky")) as node, client_of(node) as client:
        seen: list[ResponseStreamEvent] = []
        response = await client.responses.create(**ASK, max_output_tokens=9, background=True)

        async def read(after: int) -> None:
            async for event in await client.responses.retrieve(response.id, stream=True, starting_after=after):
                seen.append(event)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(openai.APIError, match="crashed") as broken:
            await read(after=0)
        assert broken.value.code == "poisoned"
        assert deltas(seen) == text(2)
        # The error event has a sequence number, and the final object comes after it.
        seen.clear()
        await read(after=6)
        [failed] = seen
        assert failed.type == "response.failed"
        assert failed.response == await client.responses.retrieve(response.id)
        assert failed.response.status == "failed"
        assert failed.response.error is not None
        assert failed.response.error.code == "server_error"
        with pytest.raises(openai.InternalServerError) as refused:
            await client.responses.create(**ASK, max_output_tokens=9)
        assert refused.value.code == "poisoned"


async def test_cut_stream_differs_from_an_ended_stream() -> None:
    async with (
        local_node(mock_model("step_ms=5")) as node,
        client_of(node) as client,
        trio.open_nursery() as nursery,
    ):
        stream = await client.responses.create(**ASK, max_output_tokens=5000, background=True, stream=True)
        last = 0

        async def read() -> None:
            nonlocal last
            async for event in stream:
                last = event.sequence_number
                if last == 5:
                    nursery.start_soon(node.node.shut_down)

        with pytest.raises(openai.APIError) as cut:
            await read()
        assert cut.value.code == "unavailable"
        assert isinstance(cut.value.body, dict)
        assert last > 5


async def test_logprobs_come_with_every_form_of_a_response(client: openai.AsyncOpenAI) -> None:
    include: Any = ["message.output_text.logprobs"]
    stream = await client.responses.create(**ASK, max_output_tokens=4, include=include, top_logprobs=2, stream=True)
    events: list[Any] = [event async for event in stream]
    streamed = [one for event in events if event.type == "response.output_text.delta" for one in event.logprobs]
    [done] = [event for event in events if event.type == "response.output_text.done"]
    final = events[-1].response
    again: Any = await client.responses.retrieve(final.id, include=include)
    for shown in (final, again):
        [part] = shown.output[0].content
        assert [one.token for one in part.logprobs] == [one.token for one in streamed]
    assert [one.logprob for one in done.logprobs] == [one.logprob for one in streamed]
    assert final.top_logprobs == 2
    assert len(streamed) == 4


async def test_errors_raise_the_classes_of_the_openai_client(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.responses.create(model="other", input="hi")
    assert missing.value.type == "not_found_error"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(**ASK, tools=[{"type": "web_search"}])
    assert (refused.value.param, refused.value.type) == ("tools", "invalid_request_error")
    assert refused.value.request_id is not None
    response = await client.responses.create(**ASK, max_output_tokens=1)
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.responses.retrieve(response.id, include=["file_search_call.results"])
    assert wrong.value.param == "include"


async def test_only_stored_responses_can_be_retrieved(node: LocalNode, client: openai.AsyncOpenAI) -> None:
    """Responses of another tenant, answers of another route, unstored and unknown responses are not found."""
    unkept = await client.responses.create(**ASK, max_output_tokens=1, store=False)
    native = await node.client.post("/v1/generate", json={"prompt": "x", "max_tokens": 1})
    other = GenerateRequest(
        "req_other", "mock", "x", max_tokens=5000, tenant="other", metadata=StoredResponse(background=True).encoded
    )
    await node.node.ledger.submit(other)
    for name in (unkept.id, native.json()["id"].replace("req_", "resp_"), native.json()["id"], "resp_other", "resp_"):
        calls: list[Any] = [
            lambda name=name: client.responses.retrieve(name),
            lambda name=name: client.responses.retrieve(name, stream=True, starting_after=3),
            lambda name=name: client.responses.cancel(name),
            lambda name=name: client.responses.delete(name),
            lambda name=name: client.responses.input_items.list(name),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError, match="no such response"):
                await call()
    assert (await node.node.ledger.info("req_other")).state != "ended"


async def test_response_is_kept_for_response_ttl_s() -> None:
    settings: Any = {"retention_s": 0.05, "response_ttl_s": 1.0}
    async with local_node(mock_model(), **settings) as node, client_of(node) as client:
        response = await client.responses.create(**ASK, max_output_tokens=2)
        await client.responses.create(**ASK, max_output_tokens=2, store=False)
        await wait_until(lambda: "1 ended" in repr(node.node.ledger))
        assert await client.responses.retrieve(response.id) == response
        await wait_until(lambda: "0 ended" in repr(node.node.ledger))
        with pytest.raises(openai.NotFoundError, match="no longer kept"):
            await client.responses.retrieve(response.id)


async def test_same_idempotency_key_is_the_same_response() -> None:
    async with local_node(mock_model("step_ms=2")) as node, client_of(node) as client:
        key = {"Idempotency-Key": "k"}
        first = await client.responses.create(**ASK, max_output_tokens=9, background=True, extra_headers=key)
        ended = await until_over(client, first.id)
        again = await client.responses.create(**ASK, max_output_tokens=9, background=True, extra_headers=key)
        assert again == ended
        with pytest.raises(openai.ConflictError):
            await client.responses.create(**ASK, max_output_tokens=9, extra_headers=key)


async def test_other_methods_and_paths_are_refused(node: LocalNode) -> None:
    assert (await node.client.get("/v1/responses")).status_code == 405
    assert (await node.client.get("/v1/responses/resp_1/cancel")).headers["allow"] == "POST, OPTIONS"
    assert (await node.client.get("/v1/responses/resp_1/input_items")).status_code == 404
    assert (await node.client.post("/v1/responses", content=b"{")).status_code == 400
    for name in ("compact", "input_tokens"):
        unserved = await node.client.post(f"/v1/responses/{name}", json={})
        assert (unserved.status_code, unserved.json()["error"]["code"]) == (404, "not_found")


async def test_response_continues_a_stored_one(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(**ASK, instructions="Be brief.", max_output_tokens=4)
    second = await client.responses.create(
        model="mock", input="And at night?", previous_response_id=first.id, max_output_tokens=5
    )
    turns = (ChatMessage("user", ASK["input"]), ChatMessage("assistant", first.output_text))
    messages = (*turns, ChatMessage("user", "And at night?"))
    assert second.output_text == mock_text(GenerateRequest("", "mock", "", messages=messages, max_tokens=5))
    assert (second.previous_response_id, second.instructions) == (first.id, None)
    third = await client.responses.create(model="mock", input="Thanks.", previous_response_id=second.id)
    items = await client.responses.input_items.list(third.id, order="asc")
    shown = [(item.role, item.content[0].text) for item in items.data if item.type == "message"]
    later = [("assistant", second.output_text), ("user", "Thanks.")]
    assert shown == [*((each.role, each.content) for each in messages), *later]


async def test_input_items_come_in_pages(client: openai.AsyncOpenAI) -> None:
    turns: Any = [{"role": role, "content": f"{role} {turn}"} for turn in range(3) for role in ("user", "assistant")]
    created = await client.responses.create(model="mock", input=turns, max_output_tokens=1)
    page = await client.responses.input_items.list(created.id, limit=4)
    texts = [item.content[0].text for item in page.data if item.type == "message"]
    assert texts == ["assistant 2", "user 2", "assistant 1", "user 1"]
    assert [item.id async for item in page] == [
        item.id for item in reversed((await client.responses.input_items.list(created.id, order="asc")).data)
    ]
    for wrong in ({"limit": 0}, {"limit": 101}, {"after": "msg_none"}):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_items.list(created.id, **wrong)
        assert caught.value.param in wrong


async def test_deleted_response_is_gone(client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(**ASK, max_output_tokens=2)
    later = await client.responses.create(model="mock", input="Go on.", previous_response_id=created.id)
    await client.responses.delete(created.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            await ask(created.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(**ASK, previous_response_id=created.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    assert await client.responses.retrieve(later.id) == later


async def test_keyed_retry_finds_its_response_without_the_one_before(client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(**ASK, max_output_tokens=2, instructions="Be brief.")
    later: dict[str, Any] = {"model": "mock", "instructions": "Be long.", "previous_response_id": created.id}

    async def ask(key: str = "later", said: str = "Go on.", **fields: Any) -> Any:
        return await client.responses.create(**later | fields, input=said, extra_headers={"Idempotency-Key": key})

    made = await ask()
    await client.responses.delete(created.id)
    assert await ask() == made
    with pytest.raises(openai.ConflictError):
        await ask(said="Go back.")
    for wrong in ({"key": "new"}, {"previous_response_id": "resp_0"}):
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(**wrong)
        assert caught.value.code == "previous_response_not_found"


async def test_running_response_is_deleted_but_not_continued(client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(**ASK, background=True, max_output_tokens=500)
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        await client.responses.create(**ASK, previous_response_id=created.id)
    await client.responses.delete(created.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(created.id)


TOOLS: Any = [
    {
        "type": "function",
        "name": "look",
        "description": "Look at a place.",
        "parameters": {"type": "object", "properties": {"at": {"enum": ["sky", "sea"]}}, "required": ["at"]},
        "strict": True,
    }
]


async def test_function_is_called_and_its_result_is_answered(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    first = await client.responses.create(**ASK, **asked, max_output_tokens=400)
    [call] = first.output
    assert call.type == "function_call"
    assert (call.name, call.status, first.status) == ("look", "completed", "completed")
    assert json.loads(call.arguments) in [{"at": "sky"}, {"at": "sea"}]
    assert (first.tool_choice, first.parallel_tool_calls, len(first.tools)) == ("required", False, 1)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "It is blue."}
    again = await client.responses.create(
        model="mock", input=[result], previous_response_id=first.id, max_output_tokens=3
    )
    history: Any = [{"role": "user", "content": ASK["input"]}, *first.output, result]
    whole = await client.responses.create(model="mock", input=history, max_output_tokens=3)
    assert again.output_text == whole.output_text
    items = (await client.responses.input_items.list(again.id, order="asc")).data
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]


async def test_input_refers_to_items_of_stored_responses(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(**ASK, tools=TOOLS, tool_choice="required", max_output_tokens=400)
    results: Any = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "It is blue."}
        for item in first.output
        if item.type == "function_call"
    ]
    question: Any = {"role": "user", "content": ASK["input"]}
    references: Any = [{"type": "item_reference", "id": item.id} for item in first.output]
    assert references
    history: Any = [question, *first.output, *results]
    whole = await client.responses.create(model="mock", input=history, max_output_tokens=3)
    asked: Any = {"model": "mock", "input": [question, *references, *results], "max_output_tokens": 3}
    assert (await client.responses.create(**asked)).output_text == whole.output_text
    await client.responses.delete(first.id)
    wrong: Any = {"type": "item_reference", "id": 7}
    cases: tuple[tuple[Any, str], ...] = (
        (asked["input"], r"`input\[1\]`: there is no item"),
        ([{"type": "item_reference", "id": "x"}], r"`input\[0\]`: there is no item"),
        ([wrong], r"`input\[0\].id` must be the id of an item"),
        ([{"type": "item_reference", "id": f"msg_{number}"} for number in range(257)], "refers to items of 257"),
    )
    for given, message in cases:
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            await client.responses.create(model="mock", input=given)
        assert caught.value.param == "input"


async def test_response_shows_fields_without_a_value(client: openai.AsyncOpenAI) -> None:
    nulls = {
        "completed_at",
        "conversation",
        "max_tool_calls",
        "prompt",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    }
    penalties = {"frequency_penalty", "presence_penalty"}
    cases: tuple[dict[str, Any], ...] = ({}, {"background": True})
    for asked in cases:
        raw = await client.responses.with_raw_response.create(**ASK, **asked, max_output_tokens=2)
        answer = raw.http_response.json()
        stored = await client.responses.with_raw_response.retrieve(answer["id"])
        for shown in (answer, stored.http_response.json()):
            assert {name for name in nulls if shown.get(name, "absent") is not None} == set()
            assert [shown[name] for name in penalties] == [0, 0]


async def test_response_shows_all_fields_of_a_tool(client: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "function", "name": "wave"}]
    answer = await client.responses.with_raw_response.create(**ASK, tools=tools, max_output_tokens=2)
    shown = {"type": "function", "name": "wave", "description": None, "parameters": None, "strict": None}
    assert answer.http_response.json()["tools"] == [shown]


async def test_stream_of_a_call_adds_up_from_any_event_on(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"tools": TOOLS, "tool_choice": {"type": "function", "name": "look"}, "max_output_tokens": 400}
    events = await events_of(await client.responses.create(**ASK, **asked, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    done = events[-1]
    assert done.type == "response.completed"
    parts = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert len(parts) > len(done.response.output) >= 1
    for call in done.response.output:
        assert call.type == "function_call"
        assert "".join(part.delta for part in parts if part.item_id == call.id) == call.arguments
    for after in (0, 3, len(events) - 3):
        stream: Any = await client.responses.retrieve(done.response.id, stream=True, starting_after=after)
        assert await events_of(stream) == events[after + 1 :]
    assert await client.responses.retrieve(done.response.id) == done.response


async def test_text_follows_a_schema(client: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"blue": {"type": "boolean"}},
        "required": ["blue"],
        "additionalProperties": False,
    }
    form: Any = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
    response = await client.responses.create(**ASK, text=form, max_output_tokens=200)
    assert json.loads(response.output_text) in [{"blue": True}, {"blue": False}]
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"
    schema["not"] = {}
    with pytest.raises(openai.BadRequestError, match=r"`text\.format\.schema`.*`?not`?") as caught:
        await client.responses.create(**ASK, text=form)
    assert caught.value.param == "text"
