"""Streaming backends, which batch by themselves, also where they cannot continue an answer that another one began."""

from collections.abc import AsyncGenerator

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.backends.mock.oracle import MockSequence
from llmactors.errors import BackendFailed, InvalidRequest
from llmactors.messages import Failed
from tests.virtual.batcher.conftest import BACKEND, BATCHER, World, codes


class Crash(Exception):
    """A crash of the whole backend."""


@attrs.define(eq=False)
class FakeRemote:
    """A server that answers as the oracle does, one task per job. A fault that a prompt names comes after 3 tokens."""

    takeover: Takeover = Takeover.EXACT
    crashes: list[int] = attrs.field(factory=lambda: [1])
    """How many crashes are left, shared by all incarnations."""
    burst: int = 1
    step_s: float = 0.01
    first_s: float = 0.0
    """The time until the first token."""
    open: set[str] = attrs.field(factory=set)
    closed: dict[str, float] = attrs.field(factory=dict)
    capabilities: Capabilities = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.capabilities = Capabilities(4, 1000, self.takeover)

    async def start(self) -> None:
        await trio.lowlevel.checkpoint()

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        assert not self.open

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        assert len(self.open) < self.capabilities.slots
        self.open.add(job.request.id)
        try:
            await trio.sleep(self.first_s)
            sequence = MockSequence(job.request, taken=len(job.tokens))
            while sequence.finish is None:
                await trio.sleep(self.step_s)
                for _ in range(self.burst):
                    self._fault(job, sequence.seq)
                    if sequence.finish is None:
                        delta = sequence.advance()
                        yield Output(job.key, (delta,), sequence.finish, sequence.prompt_tokens)
                if job.request.prompt == "short" and sequence.seq >= 3:
                    return
            yield Output(job.key, ())  # an output after the end
        finally:
            self.open.discard(job.request.id)
            self.closed[job.request.id] = trio.current_time()

    def _fault(self, job: Job, seq: int) -> None:
        if seq < 3:
            return
        match job.request.prompt:
            case "refuse":
                raise BackendFailed("not this one")
            case "invalid":
                raise InvalidRequest("too long")
            case "crash" if self.crashes[0]:
                self.crashes[0] -= 1
                raise Crash


def remote(world: World) -> FakeRemote:
    backend = world.backends[-1]
    assert isinstance(backend, FakeRemote)
    return backend


async def test_streaming_backend_gives_whole_streams(autojump_clock: MockClock) -> None:
    world = World(make=FakeRemote)
    async with world.running():
        for _ in range(12):
            await world.submit(max_tokens=10)
    assert codes(world) == ["length"] * 12
    assert world.incarnations == (1, 1)


async def test_outputs_of_one_scheduler_pass_share_an_append(autojump_clock: MockClock) -> None:
    """Outputs of one job or of several, also the last ones: one append, with each sequence counted once."""
    world = World(make=lambda: FakeRemote(burst=3))
    async with world.running():
        await world.submit(max_tokens=7)
        await world.submit(max_tokens=7)
    assert codes(world) == ["length"] * 2
    assert sum(tokens for _, tokens in world.metrics.steps) == 14
    assert max(size for size, _ in world.metrics.steps) <= 2
    assert len(world.metrics.steps) <= 6


@pytest.mark.parametrize("prompt", ["refuse", "invalid", "short"])
async def test_error_of_one_job_ends_that_job_only(autojump_clock: MockClock, prompt: str) -> None:
    """So does an answer that ends without a finish reason, which is not a complete answer."""
    world = World(make=FakeRemote)
    async with world.running():
        await world.submit(max_tokens=10)
        failed = await world.submit(prompt, max_tokens=10)
        await world.submit(max_tokens=10)
    assert len(failed.tokens) == 3
    assert codes(world) == ["length", "INVALID_REQUEST" if prompt == "invalid" else "BACKEND_FAILED", "length"]
    assert world.incarnations == (1, 1)


async def test_other_error_restarts_the_backend_and_all_go_on(autojump_clock: MockClock) -> None:
    crashes = [2]
    world = World(make=lambda: FakeRemote(crashes=crashes))
    async with world.running():
        for prompt in ("fine", "crash", "fine"):
            await world.submit(prompt, max_tokens=10)
    assert codes(world) == ["length"] * 3
    assert world.incarnations == (1, 3)


async def test_eviction_cancels_the_generator_at_once(autojump_clock: MockClock) -> None:
    world = World(make=lambda: FakeRemote(step_s=1000))
    async with world.running():
        stream = await world.submit(max_tokens=10)
        await trio.sleep(0.5)
        assert remote(world).open == {"r0"}
        cancelled_at = trio.current_time()
        await world.memory.cancel(stream.request.id)
        await trio.sleep(0.001)
        assert remote(world).closed == {"r0": cancelled_at}


async def test_restarted_batcher_cancels_all_generators(autojump_clock: MockClock) -> None:
    world = World(make=FakeRemote)
    async with world.running():
        for _ in range(4):
            await world.submit(max_tokens=50)
        await trio.sleep(0.1)
        world.crash(BATCHER)
    assert codes(world) == ["length"] * 4
    assert world.incarnations == (2, 1)


async def test_answer_that_cannot_continue_is_interrupted(autojump_clock: MockClock) -> None:
    """An answer without a token begins again. Requests queued behind interrupted ones do not wait for a beat."""
    world = World(make=lambda: FakeRemote(Takeover.RESTART, first_s=0.1))
    async with world.running():
        for _ in range(4):
            await world.submit(max_tokens=100)
        await trio.sleep(0.5)
        for stream in world.streams[:2]:
            await world.memory.cancel(stream.request.id)
        await trio.lowlevel.checkpoint()
        fresh = [await world.submit(max_tokens=100) for _ in range(4)]
        await trio.sleep(0.05)
        assert [len(stream.tokens) for stream in fresh] == [0, 0, 0, 0]
        world.crash(BACKEND)
        crashed_at = trio.current_time()
        await world.all_ended()
        assert max(stream.times[0] for stream in fresh) < crashed_at + 0.05 + 0.1 + 0.03
    assert codes(world) == ["cancelled"] * 2 + ["INTERRUPTED"] * 2 + ["length"] * 4
    for stream in world.streams[2:4]:
        assert isinstance(stream.end, Failed)
        assert "cannot continue" in stream.end.message
