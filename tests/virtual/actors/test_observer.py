"""Each event of a tree is observed once, and a broken observer has no effect on the tree."""

import logging
import random

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.actors import Actor, ActorSpec, Backoff, Exit, Observer, SupervisorSpec, Tree
from llmactors.actors.errors import ActorDied, RestartIntensityExceeded


class Fragile(Actor):
    async def on_message(self, message: object) -> object:
        if message == "crash":
            raise ValueError("crash")
        return message


@attrs.define
class Journal(Observer):
    lines: list[str] = attrs.field(factory=list)

    def actor_started(self, actor: str, incarnation: int) -> None:
        self.lines.append(f"started {actor}#{incarnation}")

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        self.lines.append(f"exited {actor}#{incarnation} {exit_}")

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        self.lines.append(f"restarting {supervisor} {children} {delay_s:g} {count}/{intensity} {exit_}")

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        self.lines.append(f"gave up {supervisor} {child} {exit_}")

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        self.lines.append(f"dead letter {actor} {reason} {message_type} {cause}")


class Broken(Observer):
    """Raises in every method."""

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return super().__getattribute__(name)

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError(name)

        return fail


async def live_and_die(observer: Observer) -> ActorSpec:
    spec = ActorSpec("a", Fragile)
    root = SupervisorSpec("root", (spec,), intensity=1, backoff=Backoff(first_s=1, jitter=0))
    tree = Tree(root, observer=observer, rng=random.Random(0))

    async def run() -> None:
        with pytest.raises(RestartIntensityExceeded):
            await tree.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        with pytest.raises(ActorDied):
            await spec.ref.ask("crash")
        assert await spec.ref.ask("hello") == "hello"
        with pytest.raises(ActorDied):
            await spec.ref.ask("crash")
    assert tree.statistics().state == "stopped"
    return spec


async def test_each_event_is_observed_once(autojump_clock: MockClock) -> None:
    journal = Journal()
    await live_and_die(journal)
    assert journal.lines == [
        "started root/a#1",
        "dead letter root/a crashed str ValueError: crash",
        "exited root/a#1 crashed: ValueError: crash",
        "restarting root ('a',) 1 1/1 crashed: ValueError: crash",
        "started root/a#2",
        "dead letter root/a crashed str ValueError: crash",
        "exited root/a#2 crashed: ValueError: crash",
        "gave up root a crashed: ValueError: crash",
    ]


async def test_exception_of_an_observer_is_only_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        spec = await live_and_die(Broken())
    assert spec.ref.incarnation == 2
    assert [record.exc_info[1].args[0] for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        "actor_started",
        "dead_letter",
        "actor_exited",
        "restarting",
        "actor_started",
        "dead_letter",
        "actor_exited",
        "gave_up",
    ]


async def test_dead_letters_are_counted_and_the_newest_kept(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Fragile)
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for number in range(300):
            await spec.ref.tell(number, deadline=-1)
        await wait_all_tasks_blocked()
        tree.stop()
    assert "300" in repr(tree.dead_letters)
    assert [letter.message for letter in tree.dead_letters.newest] == list(range(172, 300))
