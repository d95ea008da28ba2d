"""What a tree costs grows with its size and no faster, and a message costs no look at statistics."""

import time

import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import NO_BACKOFF, Actor, ActorSpec, SupervisorSpec, Tree

FEW, MANY = 100, 1_500
"""A cost that grows with the square of the number would be 225 times as high for the many."""


class Quiet(Actor[object]):
    """Takes any message."""

    async def on_message(self, message: object) -> None:
        """Does nothing."""


def tree_of(count: int) -> Tree:
    children = tuple(ActorSpec(f"child {number}", Actor) for number in range(count))
    return Tree(SupervisorSpec("root", children, intensity=1_000, backoff=NO_BACKOFF))


def building_s(count: int) -> float:
    """The shortest of three times, which the other processes of the machine disturb least."""
    took_s = []
    for _ in range(3):
        begun = time.process_time()
        tree_of(count)
        took_s.append(time.process_time() - begun)
    return min(took_s)


def test_time_to_build_a_tree_grows_with_its_size() -> None:
    count = 3 * MANY
    assert building_s(count) < 4 * count / FEW * building_s(FEW)


async def _crash_s(count: int) -> float:
    """The shortest time of a crash and a restart in a tree of so many actors."""
    took_s = []
    async with tree_of(count) as tree:
        victim = tree.actor("root/child 3")
        for number in range(5):
            incarnation = victim.spec.ref.incarnation
            begun = time.process_time()
            victim.crash(ValueError(number))
            while victim.spec.ref.incarnation == incarnation or not victim.spec.ref.running:
                await trio.lowlevel.checkpoint()
            took_s.append(time.process_time() - begun)
    return min(took_s)


async def test_crash_in_a_large_tree_costs_no_more(autojump_clock: MockClock) -> None:
    assert await _crash_s(MANY) < 4 * await _crash_s(FEW)


async def test_message_makes_no_statistics(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel makes an object for each look at its length."""
    looks = 0
    statistics = trio.MemoryReceiveChannel.statistics

    def count(channel: "trio.MemoryReceiveChannel[object]") -> object:
        nonlocal looks
        looks += 1
        return statistics(channel)

    spec = ActorSpec("one", Quiet)
    async with Tree(SupervisorSpec("root", (spec,))):
        monkeypatch.setattr(trio.MemoryReceiveChannel, "statistics", count)
        for number in range(50):
            spec.ref.tell_nowait(number)
            await spec.ref.tell(number)
            await trio.sleep(0.1)
        monkeypatch.undo()
    assert looks == 0
