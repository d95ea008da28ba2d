"""Random schedules of submits, cancels and crashes: every request ends once, and nothing is held afterwards."""

from collections.abc import Sequence

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmactors.backends.base import Batching
from llmactors.backends.mock.backend import MockSettings
from tests.virtual.batcher.conftest import BACKEND, BATCHER, World, codes

REAPER = "root/reaper"

SUBMIT = st.tuples(st.just("submit"), st.sampled_from([1, 3, 8]), st.sampled_from(["fine", "fine", "fine", "refused"]))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 7), st.just(""))
CRASH = st.tuples(st.just("crash"), st.just(0), st.sampled_from([BATCHER, BACKEND, REAPER]))
WAIT = st.tuples(st.just("wait"), st.sampled_from([0, 1, 5, 10, 25, 60]), st.just(""))
STEPS = st.lists(st.one_of(SUBMIT, SUBMIT, WAIT, WAIT, CANCEL, CRASH), min_size=3, max_size=25)

BACKENDS = st.builds(
    MockSettings,
    slots=st.sampled_from([1, 2, 5]),
    step_ms=st.sampled_from([0.0, 10.0]),
    prefill_ms=st.sampled_from([0.0, 15.0]),
    batching=st.sampled_from(Batching),
    eos_one_in=st.sampled_from([0, 6]),
    refuse=st.just("refused"),
    crash_at=st.sampled_from([0, 0, 2]),
    crash_times=st.just(1),
)


async def carry_out(world: World, steps: Sequence[tuple[str, int, str]]) -> dict[str, int]:
    """Runs a schedule, and returns how often each actor was crashed."""
    crashed = dict.fromkeys((BATCHER, BACKEND, REAPER), 0)
    async with world.running():
        for verb, number, text in steps:
            match verb:
                case "submit":
                    await world.submit(text, number)
                case "cancel" if world.streams:
                    await world.memory.cancel(world.streams[number % len(world.streams)].request.id)
                case "crash":
                    crashed[text] += world.crash(text)
                case "wait" if number:
                    await trio.sleep(number / 1000)
                case "wait":
                    await trio.lowlevel.checkpoint()
    return crashed


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mock=BACKENDS, steps=STEPS)
def test_any_schedule_of_events_ends_every_request(mock: MockSettings, steps: list[tuple[str, int, str]]) -> None:
    """`World.running` checks each stream against the oracle, and that all slots are free."""

    async def main() -> None:
        world = World(mock)
        crashed = await carry_out(world, steps)
        incarnations = {node.path: node.spec.ref.incarnation for node in world.tree.actors()}
        for path, times in crashed.items():
            faults = world.faults.faults if path == BACKEND else 0
            assert incarnations[path] <= 1 + times + faults
            if not times + faults:
                assert incarnations[path] == 1, f"{path} was not touched"
        allowed = {"length", "stop", "cancelled"}
        if sum(crashed.values()) + world.faults.faults >= 3:
            allowed.add("POISONED")  # it was the only request in the third crash
        for stream in world.streams:
            assert stream.code in allowed or (stream.code, stream.request.prompt) == ("BACKEND_FAILED", "refused")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_schedule_of_one_event_of_each_kind() -> None:
    """Every verb of the strategy has an effect."""
    steps = [
        ("submit", 8, "fine"),
        ("submit", 8, "refused"),
        ("wait", 25, ""),
        ("cancel", 0, ""),
        ("submit", 3, "fine"),
        ("crash", 0, BATCHER),
        ("wait", 0, ""),
        ("crash", 0, REAPER),
    ]

    async def main() -> None:
        world = World(MockSettings(step_ms=10, slots=2, refuse="refused"))
        assert await carry_out(world, steps) == {BATCHER: 1, BACKEND: 0, REAPER: 1}
        assert codes(world) == ["cancelled", "BACKEND_FAILED", "length"]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
