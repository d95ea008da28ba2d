"""The stepwise driver alone, with a backend that checks how the driver calls it."""

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.backends.drivers import StepwiseDriver
from llmactors.backends.messages import Key, Produced
from llmactors.errors import BackendFailed
from llmactors.messages import GenerateRequest


def job(name: str) -> Job:
    return Job((name, 1), GenerateRequest(name, "m", "p"))


@attrs.define(eq=False)
class Watched:
    """An admission takes 1 s, a step 10 s and a check 2 s. Two calls at once are an error."""

    slots: int = 2
    capabilities: Capabilities = attrs.field(init=False)
    held: list[str] = attrs.field(factory=list)
    steps: list[tuple[str, ...]] = attrs.field(factory=list)
    checks: int = 0
    peak: int = 0
    _calling: str = ""

    def __attrs_post_init__(self) -> None:
        self.capabilities = Capabilities(self.slots, 100, Takeover.EXACT)

    async def _call(self, name: str, lasts_s: float) -> None:
        assert not self._calling, f"{name} during {self._calling}"
        self._calling = name
        await trio.sleep(lasts_s)
        self._calling = ""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def admit(self, job: Job) -> None:
        await self._call("admit", 1)
        if job.key[0].startswith("bad"):
            raise BackendFailed("no")
        self.held.append(job.key[0])
        self.peak = max(self.peak, len(self.held))

    async def step(self) -> list[Output]:
        self.steps.append(tuple(self.held))
        await self._call("step", 10)
        return [Output((name, 1)) for name in self.held]

    def evict(self, key: Key) -> None:
        assert not self._calling
        self.held.remove(key[0])

    async def check(self) -> None:
        self.checks += 1
        await self._call("check", 2)


class Rig:
    def __init__(self) -> None:
        self.backend = Watched()
        self.produced: list[Produced] = []
        self.driver = StepwiseDriver(self.backend, self.emit)

    async def emit(self, produced: Produced) -> None:
        self.produced.append(produced)


async def test_assignment_takes_effect_at_the_next_step(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    rig = Rig()
    nursery.start_soon(rig.driver.run)
    rig.driver.assign((job("a"),), ())
    await trio.sleep(5)
    rig.driver.assign((job("b"),), (("a", 1),))
    rig.driver.assign((job("c"),), ())
    await trio.sleep(10)
    assert rig.backend.steps == [("a",), ("b", "c")]
    assert rig.driver.begun == {("b", 1), ("c", 1)}


async def test_job_evicted_before_its_step_is_never_admitted(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    rig = Rig()
    nursery.start_soon(rig.driver.run)
    rig.driver.assign((job("a"),), ())
    await trio.sleep(5)
    rig.driver.assign((job("b"),), ())
    assert rig.driver.begun == {("a", 1)}
    rig.driver.assign((), (("b", 1), ("never seen", 1)))
    await trio.sleep(10)
    assert rig.backend.steps == [("a",), ("a",)]


@pytest.mark.parametrize("after_s", [0.5, 1.5, 5, 11.5])
async def test_reset_leaves_only_new_jobs_in_the_backend(
    autojump_clock: MockClock, nursery: trio.Nursery, after_s: float
) -> None:
    """Also in the middle of an admission, and no slot is taken twice."""
    rig = Rig()
    nursery.start_soon(rig.driver.run)
    rig.driver.assign((job("a"), job("b")), ())
    await trio.sleep(after_s)
    rig.driver.reset()
    rig.driver.assign((job("c"), job("d")), ())
    await trio.sleep(25)
    assert rig.backend.steps[-1] == ("c", "d")
    assert rig.backend.peak == 2
    assert rig.driver.begun == {("c", 1), ("d", 1)}


async def test_job_evicted_during_admission_leaves_before_the_step(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig()
    nursery.start_soon(rig.driver.run)
    rig.driver.assign((job("a"), job("b")), ())
    await trio.sleep(0.5)
    rig.driver.assign((), (("a", 1),))
    await trio.sleep(5)
    assert rig.backend.steps == [("b",)]


async def test_refused_job_is_reported_and_forgotten(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    rig = Rig()
    nursery.start_soon(rig.driver.run)
    rig.driver.assign((job("bad"),), ())
    await trio.sleep(2)
    [produced] = rig.produced
    assert [key for key, _ in produced.failed] == [("bad", 1)]
    assert rig.driver.begun == frozenset()
    rig.driver.assign((job("bad too"), job("a")), ())
    await trio.sleep(15)
    assert rig.backend.steps[0] == ("a",)
    assert [key for key, _ in rig.produced[1].failed] == [("bad too", 1)]


async def test_driver_is_busy_only_during_calls(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    rig = Rig()
    gate = trio.Event()

    async def emit(_: Produced) -> None:
        await gate.wait()

    driver = StepwiseDriver(rig.backend, emit)
    nursery.start_soon(driver.run)
    await trio.sleep(1)
    assert driver.busy_since is None
    driver.assign((job("a"),), ())
    await trio.sleep(0.5)
    assert driver.busy_since == trio.current_time() - 0.5
    await trio.sleep(5)
    assert driver.busy_since == trio.current_time() - 4.5
    await trio.sleep(10)
    assert driver.busy_since is None


async def test_health_check_comes_between_two_steps(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    rig = Rig()
    nursery.start_soon(rig.driver.run)
    rig.driver.assign((job("a"),), ())
    await trio.sleep(3)
    async with rig.driver.between_steps:
        assert len(rig.backend.steps) == 1
        await rig.backend.check()
    await trio.sleep(1)
    assert len(rig.backend.steps) == 2
