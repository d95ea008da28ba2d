"""A response belongs to the cluster: if its gateway dies, any other gateway continues with the same events."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import ResponseStreamEvent

from llmactors.backends.mock.oracle import mock_text
from llmactors.messages import ChatMessage, GenerateRequest
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.managed_process import ManagedProcess

pytestmark = [
    pytest.mark.integration,
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

TOKENS = 60
ASK: dict[str, Any] = {"model": "mock", "input": "Why?", "max_output_tokens": TOKENS, "background": True}
_POINTS = {"type": "array", "minItems": 24, "maxItems": 24, "items": {"enum": ["north", "south"]}}
CALL: dict[str, Any] = {
    "tools": [
        {"type": "function", "name": "go", "parameters": {"properties": {"points": _POINTS}, "required": ["points"]}}
    ],
    "tool_choice": "required",
    "parallel_tool_calls": False,
}
TEXT = mock_text(GenerateRequest("", "mock", "", messages=(ChatMessage("user", "Why?"),), max_tokens=TOKENS))


def client_of(member: ManagedProcess) -> openai.AsyncOpenAI:
    # The client retries after `Retry-After`, as long as no worker has joined.
    return openai.AsyncOpenAI(base_url=f"{member.url}/v1", api_key="none", max_retries=10)


async def test_kill_9_of_the_gateway_loses_no_response_event() -> None:
    async with Cluster(ClusterSettings(gateways=2, workers=1, model="mock:step_ms=20")) as cluster:
        first, second = cluster.gateways
        seen: list[ResponseStreamEvent] = []
        async with client_of(first) as client:
            unread = await client.responses.create(**ASK, metadata={"read": "no"}, instructions="Be brief.")
            stream = await client.responses.create(**ASK, stream=True)
            with pytest.raises((httpx.TransportError, openai.APIConnectionError)):
                await _read_and_kill(stream, seen, first)
        name, last = _name(seen), seen[-1].sequence_number
        assert 10 <= last < TOKENS

        async with client_of(second) as client:
            rest = [event async for event in await client.responses.retrieve(name, stream=True, starting_after=last)]
            events = seen + rest
            assert [event.sequence_number for event in events] == list(range(TOKENS + 8))
            assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
            assert [event async for event in await client.responses.retrieve(name, stream=True)] == events
            # Nobody has read the second response before.
            [*_, end] = [event async for event in await client.responses.retrieve(unread.id, stream=True)]
            assert end.type == "response.incomplete"
            assert end.response == await client.responses.retrieve(unread.id)
            assert (end.response.metadata, end.response.instructions) == ({"read": "no"}, "Be brief.")
            assert end.response.created_at == unread.created_at

        await _check_call(cluster, second)

        # The killed gateway is a new process now, and sends the same bytes.
        await first.wait_ready(2)
        paths = (f"/v1/responses/{name}", f"/v1/responses/{unread.id}", f"/v1/responses/{name}?stream=true")
        async with httpx.AsyncClient() as http:
            for path in paths:
                answers = [(await http.get(member.url + path)).content for member in cluster.gateways]
                assert answers[0] == answers[1] != b""

        # A cancel at one gateway ends the stream of a reader at the other.
        async with client_of(first) as here, client_of(second) as there:
            events = []
            async for event in await here.responses.create(**ASK, stream=True):
                events.append(event)
                if len(events) == 8:
                    assert (await there.responses.cancel(_name(events))).status == "cancelled"
            end = events[-1]
            assert end.type == "response.incomplete"
            assert end.response == await there.responses.retrieve(_name(events))
            assert len(events) < TOKENS


async def _check_call(cluster: Cluster, member: ManagedProcess) -> None:
    """Kills the worker twice in the middle of a call of a function: the call goes on.

    A third death of a worker that comes back at once would convict the request, which runs alone each time.
    """
    async with client_of(member) as client:
        stream = await client.responses.create(**ASK | {"max_output_tokens": 1000}, **CALL, stream=True)
        seen: list[ResponseStreamEvent] = []
        async for event in stream:
            seen.append(event)
            if event.sequence_number in {8, 24}:
                cluster.workers[0].kill()
        end = seen[-1]
        assert end.type == "response.completed"
        assert len(seen) > 30, "the worker was killed twice before the end"
        [call] = end.response.output
        assert call.type == "function_call"
        points = json.loads(call.arguments)["points"]
        assert (len(points), set(points) <= {"north", "south"}) == (24, True)
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        parts = [event.delta for event in seen if event.type == "response.function_call_arguments.delta"]
        assert "".join(parts) == call.arguments
        assert [event async for event in await client.responses.retrieve(end.response.id, stream=True)] == seen


async def _read_and_kill(stream: Any, seen: list[ResponseStreamEvent], member: ManagedProcess) -> None:
    async for event in stream:
        seen.append(event)
        if event.sequence_number == 10:
            member.kill()


def _name(events: list[ResponseStreamEvent]) -> str:
    created = events[0]
    assert created.type == "response.created"
    return created.response.id
