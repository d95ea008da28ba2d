"""The spans of a worker: each claim is there once, with its epoch, and follows the claim before."""

import trio
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.messages import CordonChanged
from llmactors.messages import TraceContext
from llmactors.telemetry.tracing.context import CallerSpan, claim_span_id
from llmactors.telemetry.tracing.span import TraceSpan
from llmactors.telemetry.tracing.tracer import Tracer
from tests.virtual.batcher.conftest import BACKEND, BATCHER, MODEL, World

CONTEXT = TraceContext(f"{7:032x}", f"{9:016x}", "vendor=1")
TOKENS = 6
PROMPT = "nothing of this text may be in a span"


class Collected:
    """A `SpanExport` that keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[TraceSpan] = []

    def samples(self, caller: CallerSpan | None, trace_id: int, name: str) -> bool:
        raise AssertionError("a worker decides nothing")

    def put(self, span: TraceSpan) -> None:
        self.spans.append(span)

    def named(self, name: str) -> list[TraceSpan]:
        return [span for span in self.spans if span.name == name]


def ends(spans: list[TraceSpan]) -> list[object]:
    return [span.attributes.get("llmactors.ended", "") for span in spans]


async def test_answer_has_a_wait_a_claim_and_a_decode(autojump_clock: MockClock) -> None:
    collected = Collected()
    world = World(MockSettings(step_ms=10, slots=1), tracer=Tracer(collected))
    async with world.running():
        stream = await world.submit(max_tokens=TOKENS, trace=CONTEXT, prompt=PROMPT)
        await world.submit(max_tokens=TOKENS)
    [queue], [claim], [decode] = (collected.named(name) for name in ("queue", "claim", "decode"))
    assert {(span.trace_id, span.state) for span in collected.spans} == {(7, "vendor=1")}
    assert (queue.parent_id, claim.parent_id, decode.parent_id) == (9, 9, claim.span_id)
    assert claim.span_id == claim_span_id(7, stream.request.id, 1)
    assert (claim.links, claim.error, [event.name for event in claim.events]) == ((), "", ["first token"])
    said = claim.attributes
    assert (said["llmactors.epoch"], said["llmactors.attempt"], said["llmactors.tokens.made"]) == (1, 1, TOKENS)
    assert (said["gen_ai.response.finish_reasons"], said["gen_ai.usage.output_tokens"]) == (("length",), TOKENS)
    assert "nothing of this" not in repr(collected.spans)


async def test_crashed_claim_is_followed_by_a_link(autojump_clock: MockClock) -> None:
    collected = Collected()
    world = World(MockSettings(step_ms=10, slots=2), tracer=Tracer(collected))
    async with world.running():
        stream = await world.submit(max_tokens=TOKENS, trace=CONTEXT)
        await trio.sleep(0.035)
        world.crash(BACKEND)
    first, second = collected.named("claim")
    assert (ends([first, second]), first.error, second.error) == (["crashed", ""], "crashed", "")
    [link] = second.links
    assert (link.span_id, link.attributes["llmactors.cause"]) == (first.span_id, "crashed")
    assert first.span_id == claim_span_id(7, stream.request.id, 1)
    made = [span.attributes["llmactors.tokens.made"] for span in (first, second)]
    assert (made, second.attributes["llmactors.tokens.before"]) == ([3, 3], 3)
    assert len(collected.named("queue")) == 2


async def test_claim_of_a_stopped_batcher_is_told_once(autojump_clock: MockClock) -> None:
    collected = Collected()
    world = World(MockSettings(step_ms=10, slots=2), tracer=Tracer(collected))
    async with world.running():
        await world.submit(max_tokens=TOKENS, trace=CONTEXT)
        await trio.sleep(0.025)
        world.crash(BATCHER)
    assert ends(collected.named("claim")) == ["left", ""]


async def test_cancelled_request_ends_its_claim(autojump_clock: MockClock) -> None:
    collected = Collected()
    world = World(MockSettings(step_ms=10, slots=2), tracer=Tracer(collected))
    async with world.running():
        stream = await world.submit(max_tokens=1000, trace=CONTEXT)
        await trio.sleep(0.035)
        await world.memory.cancel(stream.request.id)
    [claim] = collected.named("claim")
    assert (ends([claim]), claim.error) == (["stopped"], "")


async def test_next_worker_tells_of_a_silent_one(autojump_clock: MockClock) -> None:
    """The silent worker held the request, and only the ledger knows that."""
    collected = Collected()
    world = World(MockSettings(step_ms=10, slots=2), tracer=Tracer(collected), lease_s=1.0)
    async with world.running():
        await world.memory.beat("gone#1")
        world.takes_work = False
        stream = await world.submit(max_tokens=TOKENS, trace=CONTEXT)
        [claim] = await world.memory.claim("gone#1", MODEL, 1)
        world.takes_work = True
        await world.batcher_spec.ref.tell(CordonChanged())
        await world.until(stream.done.is_set)
    lost, taken = collected.named("claim")
    assert (ends([lost, taken]), lost.error) == (["silent", ""], "silent")
    assert lost.span_id == claim_span_id(7, stream.request.id, claim.epoch)
    assert lost.attributes["llmactors.worker"] == "gone#1"
    assert lost.attributes["llmactors.told_by"] == taken.attributes["llmactors.worker"]
    assert taken.links[0].attributes["llmactors.cause"] == "silent"
    assert lost.ended_ns >= lost.begun_ns
