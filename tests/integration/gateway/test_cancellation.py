"""The cancellation matrix: in every state, and however its client leaves, a request stops and frees its slot.

A disconnect from a native stream is no cancel: the stream runs on for `resume_grace_s`, and times count from its end.
"""

import contextlib
from collections.abc import Callable

import attrs
import pytest
import trio

from llmactors.messages import Finished, Usage
from llmactors.testing.node import LocalNode, local_node, wait_until
from tests.conftest import Figures
from tests.support.leaving import (
    BACKGROUND,
    CHAT_JSON,
    CHAT_STREAM,
    CHOICES,
    JSON,
    RESPONSE_JSON,
    RESPONSE_STREAM,
    SOCKET,
    STREAM,
    Client,
    Route,
    Way,
)
from tests.support.watched_mock import Watch, watched_model

pytestmark = pytest.mark.integration

STEP_MS = 20
MOST_STEPS = 5
"""The number of tokens that may still be made after the end is due: those of 100 ms. Tests count tokens and not time,
since both slow down on a busy machine."""
GRACE_S = 0.1
BACKGROUND_S = 0.4
"""The grace of a background response, which counts from the request, since nobody needs to wait for the answer."""
HOLDER = "holder"
PROMPT = "who goes"
LONG = 4000


@attrs.frozen
class Place:
    """A state in the life of a request."""

    name: str
    model: str
    """The options of the simulated model that keep a request in this state."""
    held: bool
    """Whether another request holds the only slot."""
    reached: Callable[[LocalNode, Watch, str], bool]

    def __str__(self) -> str:
        return self.name


def state(node: LocalNode, request_id: str) -> str:
    return node.node.ledger._records[request_id].info().state


QUEUED = Place(
    "queued",
    f"slots=1,step_ms={STEP_MS}",
    held=True,
    reached=lambda node, _, request_id: state(node, request_id) == "queued",
)
CLAIMED = Place(
    # The backend is within a step that does not end, so it admits no new request.
    "claimed",
    f"slots=2,step_ms={STEP_MS},slow_at=1,slow_ms=3600000,crash_prompt={HOLDER}",
    held=True,
    reached=lambda node, watch, request_id: state(node, request_id) == "running" and request_id not in watch.admitted,
)
PREFILL = Place(
    "before the first token",
    f"slots=1,step_ms={STEP_MS},prefill_ms=3600000",
    held=False,
    reached=lambda _, watch, request_id: request_id in watch.holding,
)
RUNNING = Place(
    "mid-stream",
    f"slots=2,step_ms={STEP_MS}",
    held=False,
    reached=lambda _, watch, request_id: len(watch.made_at[request_id]) >= 2,
)

ROWS = [
    *((QUEUED, route) for route in (STREAM, JSON, SOCKET, CHAT_STREAM)),
    (CLAIMED, STREAM),
    (CLAIMED, CHAT_JSON),
    *((PREFILL, route) for route in (STREAM, JSON)),
    *((RUNNING, route) for route in (STREAM, JSON, SOCKET, CHAT_STREAM, CHAT_JSON)),
    *((RUNNING, route) for route in (RESPONSE_STREAM, RESPONSE_JSON, BACKGROUND)),
    (QUEUED, BACKGROUND),
]
"""The rows of the matrix; `Way` has the columns. A new route needs a line in `tests.support.leaving` and one here."""


def newest(node: LocalNode, prompt: str) -> list[str]:
    """The ids of the requests with this prompt."""
    return [each.request_id for each in node.node.ledger._records.values() if prompt in each.request.text]


async def id_of(node: LocalNode, prompt: str) -> str:
    await wait_until(lambda: bool(newest(node, prompt)))
    return newest(node, prompt)[0]


@pytest.mark.parametrize("way", list(Way), ids=lambda way: way.value)
@pytest.mark.parametrize(("place", "route"), ROWS, ids=str)
async def test_disconnect_ends_request_and_frees_slot(place: Place, route: Route, way: Way, figures: Figures) -> None:
    model, watch = watched_model(place.model)
    async with (
        local_node(model, resume_grace_s=GRACE_S, background_s=BACKGROUND_S) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        holder = None
        if place.held:
            await stack.enter_async_context(STREAM.open(node.url, HOLDER, LONG))
            holder = await id_of(node, HOLDER)
            await wait_until(lambda: holder in watch.holding)
        begun = trio.current_time()
        client = await stack.enter_async_context(route.open(node.url, PROMPT, LONG))
        request_id = await id_of(node, PROMPT)
        await wait_until(lambda: place.reached(node, watch, request_id))
        if place is RUNNING and route.streams:
            await client.read_token()

        asked = trio.current_time()
        await client.leave(way, request_id)
        left = trio.current_time()
        survives = route.survives and way is not Way.CANCEL
        due = left if way is Way.TIMEOUT else asked
        if survives:
            due = begun + BACKGROUND_S if route is BACKGROUND else left + GRACE_S
        await wait_until(lambda: state(node, request_id) == "ended")
        ended = trio.current_time()
        await wait_until(lambda: request_id not in watch.holding)
        await wait_until(lambda: node.node.directory.running["mock"] == place.held)
        stopped_ms = (watch.left_at.get(request_id, trio.current_time()) - due) * 1000
        figures("cancelled after (ms)", f"{place.name}, {route.name}, {way.value}", round(stopped_ms))

        assert ended >= due
        assert watch.made_after(request_id, due) <= MOST_STEPS
        log = await node.node.ledger.read(request_id)
        assert log.end == Finished("cancelled", Usage(0, len(log.deltas)))
        assert 0 <= len(watch.made_at[request_id]) - len(log.deltas) <= MOST_STEPS
        assert place is RUNNING or not log.deltas
        if way is Way.CANCEL:
            check_told(route, await told(client), len(log.deltas))
        if holder is not None:
            assert state(node, holder) == "running"
            assert await node.node.ledger.cancel(holder)
        statistics = await node.node.ledger.statistics()
        assert (statistics.queued, statistics.running) == (0, 0)


async def told(client: Client) -> object:
    with trio.fail_after(10):
        return await client.read_end()


def check_told(route: Route, end: object, tokens: int) -> None:
    """Asserts that a client which cancelled and stayed is told so in the form of its API."""
    match route.name, end:
        case "JSON", (200, {"finish_reason": "cancelled", "usage": {"completion_tokens": count}}):
            assert count == tokens
        case "stream" | "WebSocket", {"finish_reason": "cancelled", "seq": seq, "usage": {"completion_tokens": count}}:
            assert (seq, count) == (tokens + 1, tokens)
        case "chat stream", {"error": {"code": "interrupted"}}:
            assert tokens
        case "response JSON", (200, {"status": "cancelled"}):
            pass
        case "response stream", {"response": {"status": "cancelled"}}:
            pass
        case "background response", (200, {"status": "queued" | "in_progress"}):
            pass  # what it was told when it asked
        case "chat JSON", (502, {"error": {"code": "interrupted"}}):
            pass
        case "chat stream", (502, {"error": {"code": "interrupted"}}):
            assert not tokens  # with the first one it would have begun
        case _:
            raise AssertionError(end)


@pytest.mark.parametrize("way", [Way.FIN, Way.RST, Way.CANCEL], ids=lambda way: way.value)
async def test_all_choices_of_an_answer_are_cancelled_together(way: Way) -> None:
    """Cancelling one choice cancels all, since there is no answer without one of them."""
    model, watch = watched_model(RUNNING.model)
    async with local_node(model, resume_grace_s=30.0) as node, CHOICES.open(node.url, PROMPT, LONG) as client:
        await wait_until(lambda: len(watch.holding) == 2)
        await client.leave(way, newest(node, PROMPT)[1])
        await wait_until(lambda: not watch.holding)
        if way is Way.CANCEL:
            check_told(CHAT_JSON, await told(client), 0)


async def test_freed_slot_is_used_at_once() -> None:
    """The next request gets the slot before the next beat, and before the prefill of the cancelled request ends."""
    model, watch = watched_model(PREFILL.model)
    async with local_node(model) as node, JSON.open(node.url, PROMPT, LONG):
        first = await id_of(node, PROMPT)
        await wait_until(lambda: first in watch.holding)
        async with STREAM.open(node.url, "next", LONG) as waiting:
            second = await id_of(node, "next")
            await node.client.delete(f"/v1/streams/{first}")
            await wait_until(lambda: second in watch.holding, within_s=0.5)
            await waiting.leave(Way.CANCEL, second)


async def test_client_that_returns_within_the_grace_continues() -> None:
    """A request that a second reader follows is not cancelled when the first reader leaves."""
    model, watch = watched_model(RUNNING.model)
    async with local_node(model, resume_grace_s=0.3) as node:
        async with STREAM.open(node.url, PROMPT, 40) as client:
            request_id = await id_of(node, PROMPT)
            await client.read_token()
            await client.leave(Way.RST, request_id)
        answer = await node.client.get(f"/v1/streams/{request_id}")
        assert '"finish_reason":"length"' in answer.text
        assert len(watch.made_at[request_id]) == 40
