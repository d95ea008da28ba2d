"""Every fault at every moment of an incarnation, and the result that the runtime promises.

{raise, hang, return early, raise in cleanup, be cancelled} x {start, first message, mid-work, stopping}
"""

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import NO_BACKOFF, Actor, ActorSpec, Context, Observer, SupervisorSpec, Tree
from llmactors.actors.envelope import Exit
from llmactors.actors.errors import ActorDied

FAULTS = ["raise", "hang", "return early", "raise in cleanup", "be cancelled"]


class Exits(Observer):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        self.seen.append(f"#{incarnation} {exit_}")


@attrs.define
class Plot:
    """The fault to play and its moment, and what the actors did."""

    fault: str
    moment: str
    handled: list[object] = attrs.field(factory=list)
    cleanups: int = 0


class Victim(Actor):
    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        self.fails_cleanup = False

    async def on_start(self, context: Context) -> None:
        self.context = context
        if self.plot.moment == "start" and context.incarnation == 2:
            await self.play()

    async def on_message(self, message: object) -> object:
        if message == "fault":
            if self.plot.moment in {"mid-work", "stopping"}:
                await trio.sleep(1)
            return await self.play()
        self.plot.handled.append((self.context.incarnation, message))
        return message

    async def on_stop(self) -> None:
        self.plot.cleanups += 1
        if self.fails_cleanup:
            raise OSError("cleanup")

    async def play(self) -> str:
        match self.plot.fault:
            case "raise":
                raise ValueError("fault")
            case "hang":
                await trio.sleep_forever()
            case "return early":
                self.context.exit()
            case "raise in cleanup":
                self.fails_cleanup = True
                if self.plot.moment == "start":
                    raise ValueError("fault")
                self.context.exit()
            case "be cancelled":
                await trio.sleep(2 if self.plot.moment == "stopping" else 10_000)
        return "answer"


@attrs.define
class Run:
    tree: Tree
    spec: ActorSpec
    exits: Exits


@contextlib.asynccontextmanager
async def running(plot: Plot, *, budget_s: float) -> AsyncIterator[Run]:
    exits = Exits()
    spec = ActorSpec("victim", lambda: Victim(plot), budget_s=budget_s, start_s=60, grace_s=5)
    tree = Tree(SupervisorSpec("root", (spec,), period_s=600, backoff=NO_BACKOFF), observer=exits)
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        yield Run(tree, spec, exits)
        tree.stop()


@pytest.mark.parametrize(
    ("fault", "exit_", "lasts_s"),
    [
        ("raise", "#2 crashed: ValueError: fault", 0),
        ("hang", "#2 crashed: HandlerHung: the start of root/victim took longer than its budget", 60),
        ("return early", "#2 normal", 0),
        ("raise in cleanup", "#2 crashed: ValueError: fault (and 1 more)", 0),
    ],
)
async def test_fault_at_a_restart_ends_as_the_table_says(
    fault: str, exit_: str, lasts_s: float, autojump_clock: MockClock
) -> None:
    """The failed start counts and is tried again, and queued messages wait for the next incarnation."""
    plot = Plot(fault, "start")
    async with running(plot, budget_s=1) as run:
        run.tree.actor("root/victim").crash(KeyError("first"))
        await trio.testing.wait_all_tasks_blocked()
        await run.spec.ref.tell("queued")
        assert await run.spec.ref.ask("more") == "more"

        assert run.exits.seen == ["#1 crashed: KeyError: 'first'", exit_]
        assert trio.current_time() == lasts_s
        assert plot.handled == [(3, "queued"), (3, "more")]
        assert plot.cleanups == 2
        assert run.tree.statistics().recent_restarts == 2


async def test_cancelled_restart_ends_as_the_table_says(autojump_clock: MockClock) -> None:
    """A stop of the tree cancels a slow start."""
    plot = Plot("be cancelled", "start")
    async with running(plot, budget_s=1) as run:
        run.tree.actor("root/victim").crash(KeyError("first"))
        await trio.sleep(3)
    assert trio.current_time() == 3
    assert run.exits.seen[1:] == ["#2 killed"]
    assert plot.cleanups == 2


@pytest.mark.parametrize("moment", ["first message", "mid-work"])
@pytest.mark.parametrize(
    ("fault", "exit_", "answer", "reason"),
    [
        ("raise", "#1 crashed: ValueError: fault", None, "crashed"),
        ("hang", "#1 crashed: HandlerHung: root/victim, handling str took longer than its budget", None, "crashed"),
        ("return early", "#1 normal", "answer", ""),
        ("raise in cleanup", "#1 crashed: OSError: cleanup", "answer", ""),
        ("be cancelled", "#1 crashed: KeyError: 'background'", None, "cancelled"),
    ],
)
async def test_fault_at_a_message_ends_as_the_table_says(
    moment: str, fault: str, exit_: str, answer: str | None, reason: str, autojump_clock: MockClock
) -> None:
    """Only the message in hand is lost, its asker gets the error at once, and the next incarnation gets the others."""
    plot = Plot(fault, moment)
    async with running(plot, budget_s=30) as run:
        ref = run.spec.ref
        before = ["one", "two"] if moment == "mid-work" else []
        for message in before:
            await ref.tell(message)

        async def ask() -> None:
            if answer is None:
                with pytest.raises(ActorDied):
                    await ref.ask("fault")
            else:
                assert await ref.ask("fault") == answer
            assert trio.current_time() == (
                30 if fault == "hang" else asked + (1 if moment == "mid-work" else 0) * works
            )

        works = fault != "be cancelled"
        asked = trio.current_time() + (0 if works else 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            for message in ("three", "four"):
                await ref.tell(message)
            if fault == "be cancelled":
                await trio.sleep(5)
                run.tree.actor("root/victim").crash(KeyError("background"))
        assert await ref.ask("last") == "last"

        assert run.exits.seen == [exit_]
        assert plot.handled == [(1, message) for message in before] + [(2, it) for it in ("three", "four", "last")]
        assert plot.cleanups == 1
        letters = run.tree.dead_letters.newest
        assert [(it.message, it.reason.value) for it in letters] == ([("fault", reason)] if reason else [])


@pytest.mark.parametrize(
    ("fault", "exit_", "answer", "at_s"),
    [
        ("raise", "#1 crashed: ValueError: fault", None, 1),
        ("hang", "#1 killed", None, 5.5),
        ("return early", "#1 shutdown", "answer", 1),
        ("raise in cleanup", "#1 crashed: OSError: cleanup", "answer", 1),
        ("be cancelled", "#1 shutdown", "answer", 3),
    ],
)
async def test_fault_at_a_stop_ends_as_the_table_says(
    fault: str, exit_: str, answer: str | None, at_s: float, autojump_clock: MockClock
) -> None:
    """The message in hand may end within the grace. Nothing is restarted or escalated, and no other message is handled.

    The cancel of this test comes from outside the tree, and does the same as a stop.
    """
    plot = Plot(fault, "stopping")
    answers: list[object] = []

    async def ask(run: Run, message: str) -> None:
        try:
            answers.append(await run.spec.ref.ask(message))
        except ActorDied:
            answers.append(None)

    async with trio.open_nursery() as askers:
        with trio.CancelScope() as outer:
            async with running(plot, budget_s=99) as run:
                askers.start_soon(ask, run, "fault")
                await trio.sleep(0.5)
                askers.start_soon(ask, run, "queued")
                await trio.testing.wait_all_tasks_blocked()
                if fault == "be cancelled":
                    outer.cancel()
        assert trio.current_time() == at_s
    assert answers == [answer, None]
    assert run.exits.seen == [exit_]
    assert plot.handled == []
    assert plot.cleanups == 1
    assert run.tree.statistics().state == "stopped"
