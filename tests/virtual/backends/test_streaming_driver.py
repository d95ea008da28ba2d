"""The streaming driver alone: outputs that a backend yields, and outputs that it offers."""

from collections.abc import AsyncGenerator, Callable
from itertools import pairwise

import attrs
import trio
from trio.testing import MockClock

from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.backends.drivers import BEGUN_PER_PASS, MAX_WAITING, StreamingDriver
from llmactors.backends.messages import Produced
from llmactors.messages import GenerateRequest, TokenDelta


def job(name: str) -> Job:
    return Job((name, 1), GenerateRequest(name, "m", "p"))


def output(name: str, text: str) -> Output:
    return Output((name, 1), (TokenDelta(1, text),))


@attrs.define(eq=False)
class Endless:
    """Yields a token, offers some, and so on, until it is cancelled."""

    offered: int
    """How many tokens are offered after each one that is yielded."""
    made: int = 0
    refused: int = 0
    capabilities: Capabilities = attrs.field(init=False, default=Capabilities(8, 100, Takeover.RESTART))
    offer: Callable[[Output], bool] | None = None

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...

    def offer_outputs(self, offer: Callable[[Output], bool]) -> None:
        self.offer = offer

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        assert self.offer is not None
        while True:
            yield self._next(job)
            for _ in range(self.offered):
                made = self._next(job)
                if not self.offer(made):
                    self.refused += 1
                    yield made
            await trio.sleep(1)

    def _next(self, job: Job) -> Output:
        self.made += 1
        return output(job.key[0], f"{self.made}")


async def test_offered_outputs_keep_their_order(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    backend = Endless(offered=3)
    heard: list[str] = []

    async def emit(produced: Produced) -> None:
        heard.extend(delta.text for each in produced.outputs for delta in each.deltas)

    driver = StreamingDriver(backend, emit)
    nursery.start_soon(driver.run)
    driver.assign((job("a"),), ())
    await trio.sleep(5.5)
    assert heard == [f"{number}" for number in range(1, 25)]
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_backend_waits_while_the_batcher_takes_nothing(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    backend = Endless(offered=300)
    heard: list[str] = []
    goes_on = trio.Event()

    async def emit(produced: Produced) -> None:
        heard.extend(delta.text for each in produced.outputs for delta in each.deltas)
        await goes_on.wait()

    driver = StreamingDriver(backend, emit)
    nursery.start_soon(driver.run)
    driver.assign((job("a"),), ())
    await trio.sleep(50)
    assert len(heard) + MAX_WAITING <= backend.made <= len(heard) + MAX_WAITING + 1
    assert backend.refused == 1
    goes_on.set()
    await trio.sleep(2)
    assert heard[: MAX_WAITING + 100] == [f"{number}" for number in range(1, MAX_WAITING + 101)]
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_many_jobs_begin_a_few_in_each_pass(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    backend = Endless(offered=0)

    async def emit(produced: Produced) -> None: ...

    driver = StreamingDriver(backend, emit)
    nursery.start_soon(driver.run)
    driver.assign(tuple(job(f"{number}") for number in range(40)), ())
    begun = [0]
    while begun[-1] < 40:
        await trio.lowlevel.checkpoint()
        begun.append(backend.made)
    assert max(after - before for before, after in pairwise(begun)) <= 2 * BEGUN_PER_PASS
    nursery.cancel_scope.cancel(reason="the test is over")


async def test_evicted_job_ends_while_it_waits_for_room(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    backend = Endless(offered=2000)

    async def emit(produced: Produced) -> None:
        await trio.sleep_forever()

    driver = StreamingDriver(backend, emit)
    nursery.start_soon(driver.run)
    driver.assign((job("a"),), ())
    await trio.sleep(5)
    driver.assign((), (("a", 1),))
    await trio.sleep(1)
    assert not driver.begun
    made = backend.made
    await trio.sleep(5)
    assert backend.made == made
    nursery.cancel_scope.cancel(reason="the test is over")
