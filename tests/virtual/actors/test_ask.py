"""An `ask` ends in exactly one way, and every asker gets an answer or an error."""

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import NO_BACKOFF, Actor, ActorSpec, Backoff, Context, Overflow, Restart, SupervisorSpec, Tree
from llmactors.actors.envelope import Envelope
from llmactors.actors.errors import ActorDied, ActorError, HandlerHung, MailboxFull, MessageExpired
from llmactors.errors import RateLimited


class Scripted(Actor):
    """Calls each message, which is an async function that takes the actor."""

    async def on_start(self, context: Context) -> None:
        self.context = context

    async def on_message(self, message: Callable[["Scripted"], Awaitable[object]]) -> object:
        return await message(self)


async def number(actor: Scripted) -> int:
    return actor.context.incarnation


async def crash(actor: Scripted) -> None:
    raise ValueError("crash")


async def leave(actor: Scripted) -> None:
    actor.context.exit()


async def refuse(actor: Scripted) -> None:
    raise RateLimited("slow down", retry_after_s=2)


def sleep(seconds: float) -> Callable[[Scripted], Awaitable[object]]:
    async def sleep(actor: Scripted) -> str:
        await trio.sleep(seconds)
        return "slept"

    return sleep


@contextlib.asynccontextmanager
async def running(spec: ActorSpec, backoff: Backoff = NO_BACKOFF, **supervisor: Any) -> AsyncIterator[Tree]:
    tree = Tree(SupervisorSpec("root", (spec,), backoff=backoff, **supervisor))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        yield tree
        tree.stop()


async def test_ask_returns_the_reply(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec):
        assert await spec.ref.ask(number) == 1


async def test_declared_error_reaches_the_asker_without_a_crash(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted, declares=(RateLimited,))
    async with running(spec) as tree:
        with pytest.raises(RateLimited) as caught:
            await spec.ref.ask(refuse)
        assert caught.value.retry_after_s == 2
        assert await spec.ref.ask(number) == 1
        await spec.ref.tell(refuse)
        assert await spec.ref.ask(number) == 1
        assert [letter.reason.value for letter in tree.dead_letters.newest] == ["refused"]


async def test_undeclared_error_crashes_the_callee(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec):
        with pytest.raises(ActorDied, match="RateLimited: slow down"):
            await spec.ref.ask(refuse)
        assert await spec.ref.ask(number) == 2


async def test_hang_is_a_crash_even_if_the_error_is_declared(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted, budget_s=3, declares=(ActorError, HandlerHung))
    async with running(spec):
        with pytest.raises(ActorDied, match="HandlerHung"):
            await spec.ref.ask(sleep(99))
        assert trio.current_time() == 3
        assert await spec.ref.ask(number) == 2


async def test_crash_of_the_callee_reaches_the_asker_at_once(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec, Backoff(first_s=50, cap_s=50)):
        with pytest.raises(ActorDied, match="ValueError: crash"), trio.fail_after(1000):
            await spec.ref.ask(crash)
        assert trio.current_time() == 0


async def test_ask_of_an_ended_actor_fails_at_once(autojump_clock: MockClock) -> None:
    """This holds for asks that wait in the mailbox, and for asks that wait for room in the mailbox."""
    spec = ActorSpec("a", Scripted, restart=Restart.TEMPORARY, capacity=1)
    ends: list[str] = []

    async def ask() -> None:
        with pytest.raises(ActorDied):
            await spec.ref.ask(number)
        ends.append(f"{trio.current_time():g}")

    async with running(spec) as tree, trio.open_nursery() as askers:
        askers.start_soon(spec.ref.ask, sleep(5))
        await trio.testing.wait_all_tasks_blocked()
        spec.ref.tell_nowait(leave)
        await trio.sleep(4)
        for _ in range(3):
            askers.start_soon(ask)
        await trio.sleep(4)
        assert ends == ["5"] * 3
        await ask()
        with pytest.raises(ActorDied):
            spec.ref.tell_nowait(number)
        assert tree.statistics().children[0].state == "stopped"
        assert spec.ref.mailbox.statistics().blocked_senders == 0


async def test_end_of_the_tree_fails_open_asks(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted, grace_s=9)

    async def ask() -> None:
        with pytest.raises(ActorDied):
            await spec.ref.ask(number)

    async with trio.open_nursery() as askers, running(spec) as tree:
        askers.start_soon(spec.ref.ask, sleep(5))
        await trio.testing.wait_all_tasks_blocked()
        askers.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        tree.stop()
    assert trio.current_time() == 5


async def test_ask_fails_if_a_rejecting_mailbox_is_full(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted, capacity=1, overflow=Overflow.REJECT)
    async with running(spec), trio.open_nursery() as askers:
        askers.start_soon(spec.ref.ask, sleep(5))
        await trio.testing.wait_all_tasks_blocked()
        spec.ref.tell_nowait(number)
        with pytest.raises(MailboxFull):
            await spec.ref.ask(number)


async def test_ask_fails_if_newer_messages_displace_it(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted, capacity=1, overflow=Overflow.DROP_OLDEST)

    async def ask() -> None:
        with pytest.raises(MailboxFull):
            await spec.ref.ask(number)

    async with running(spec) as tree, trio.open_nursery() as askers:
        askers.start_soon(spec.ref.ask, sleep(5))
        await trio.testing.wait_all_tasks_blocked()
        askers.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await spec.ref.tell(number)
        assert [letter.reason.value for letter in tree.dead_letters.newest] == ["overflow"]


async def test_ask_ends_at_its_deadline_while_the_callee_works(autojump_clock: MockClock) -> None:
    """The callee continues, because a deadline of the caller does not cancel the callee."""
    spec = ActorSpec("a", Scripted)
    async with running(spec):
        with pytest.raises(trio.TooSlowError), trio.fail_after(2):
            await spec.ref.ask(sleep(5))
        assert await spec.ref.ask(number) == 1
        assert trio.current_time() == 5


async def test_ask_ends_at_its_deadline_during_a_backoff(autojump_clock: MockClock) -> None:
    """The next incarnation drops the message unread."""
    spec = ActorSpec("a", Scripted)
    async with running(spec, Backoff(first_s=50, cap_s=50, jitter=0)) as tree:
        await spec.ref.tell(crash)
        with pytest.raises(trio.TooSlowError), trio.fail_after(2):
            await spec.ref.ask(sleep(5))
        assert trio.current_time() == 2
        assert await spec.ref.ask(number) == 2
        assert trio.current_time() == 50
        assert [letter.reason.value for letter in tree.dead_letters.newest] == ["crashed", "expired"]
        assert tree.actor("root/a").statistics().handled == 1


async def test_ask_during_a_backoff_is_answered_after_it(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec, Backoff(first_s=50, cap_s=50, jitter=0)):
        await spec.ref.tell(crash)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(60):
            assert await spec.ref.ask(number) == 2


async def test_expired_tell_is_dropped_unread(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec) as tree:
        await spec.ref.tell(sleep(5))
        await spec.ref.tell(crash, deadline=5)
        await spec.ref.tell(sleep(0), deadline=5.1)
        await trio.sleep(6)
        assert tree.actor("root/a").statistics().handled == 2
        assert [letter.reason.value for letter in tree.dead_letters.newest] == ["expired"]


async def test_expired_ask_fails_with_message_expired(autojump_clock: MockClock) -> None:
    """Otherwise an asker whose deadline was extended meanwhile would wait for ever."""
    spec = ActorSpec("a", Scripted)
    async with running(spec), trio.open_nursery() as nursery:
        await spec.ref.tell(sleep(5))
        with trio.CancelScope(deadline=2) as scope:

            async def put_off() -> None:
                await trio.sleep(1)
                scope.deadline = math.inf

            nursery.start_soon(put_off)
            with pytest.raises(MessageExpired):
                await spec.ref.ask(number)
        assert trio.current_time() == 5


async def test_cancel_of_the_asker_ends_the_ask(autojump_clock: MockClock) -> None:
    """A cancel ends the wait before the send, for room and for the answer, and leaves nothing behind."""
    spec = ActorSpec("a", Scripted, capacity=1)
    async with running(spec) as tree:
        with trio.CancelScope() as before:
            before.cancel()
            await spec.ref.ask(number)
        assert before.cancelled_caught

        await spec.ref.tell(sleep(5))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as for_answer:
            await spec.ref.ask(number)
        assert for_answer.cancelled_caught

        with trio.move_on_after(1) as for_room:
            await spec.ref.ask(number)
        assert for_room.cancelled_caught
        assert spec.ref.mailbox.statistics() == attrs.evolve(
            spec.ref.mailbox.statistics(), depth=1, blocked_senders=0, control=0
        )
        assert await spec.ref.ask(number) == 1
        assert tree.actor("root/a").statistics().handled == 2


async def test_reply_wins_over_a_cancel_at_the_same_moment(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec):
        with trio.CancelScope() as scope:

            async def reply_and_cancel(actor: Scripted) -> str:
                await trio.sleep(1)
                return "reply"

            async def cancel_with_it() -> None:
                reply = replies[0].reply
                assert reply is not None
                done = trio.Event()
                reply.on_done = done.set
                await done.wait()
                scope.cancel()

            replies = []
            put = spec.ref.mailbox.put

            async def spy(envelope: Envelope) -> None:
                replies.append(envelope)
                nursery.start_soon(cancel_with_it)
                await put(envelope)

            spec.ref.mailbox.put = spy  # type: ignore[method-assign]
            async with trio.open_nursery() as nursery:
                assert await spec.ref.ask(reply_and_cancel) == "reply"
        assert scope.cancel_called


async def test_two_actors_that_ask_each_other_wait_for_a_deadline(autojump_clock: MockClock) -> None:
    """The runtime does not prevent such a deadlock; here the budget ends it."""
    specs = [ActorSpec(name, Scripted, budget_s=9) for name in "ab"]
    tree = Tree(SupervisorSpec("root", tuple(specs), backoff=NO_BACKOFF))

    async def ask_b(actor: Scripted) -> object:
        return await specs[1].ref.ask(ask_a)

    async def ask_a(actor: Scripted) -> object:
        return await specs[0].ref.ask(number)

    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        with pytest.raises(ActorDied):
            await specs[0].ref.ask(ask_b)
        assert trio.current_time() == 9
        tree.stop()


async def test_message_for_one_incarnation_reaches_no_other(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec) as tree:
        assert await spec.ref.ask(number, incarnation=1) == 1
        await spec.ref.tell(crash, incarnation=1)
        with pytest.raises(ActorDied):
            await spec.ref.ask(number, incarnation=1)
        await spec.ref.tell(crash, incarnation=1)
        assert await spec.ref.ask(number, incarnation=2) == 2
        assert [letter.reason.value for letter in tree.dead_letters.newest] == ["crashed", "stale", "stale"]


async def test_late_answer_is_dropped(autojump_clock: MockClock) -> None:
    spec = ActorSpec("a", Scripted)
    async with running(spec):
        with trio.move_on_after(1):
            await spec.ref.ask(sleep(2))
        assert await spec.ref.ask(number) == 1


async def test_error_whose_str_raises_still_fails_the_ask(autojump_clock: MockClock) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    async def mute(actor: Scripted) -> None:
        raise MuteError

    spec = ActorSpec("a", Scripted)
    async with running(spec):
        with pytest.raises(ActorDied, match="MuteError"):
            await spec.ref.ask(mute)


async def test_ask_in_a_cancelled_handler_is_cancelled(autojump_clock: MockClock) -> None:
    """Otherwise a stop would look like a crash."""
    asked = ActorSpec("asked", Scripted)

    async def ask_at_the_end(actor: Scripted) -> None:
        try:
            await trio.sleep_forever()
        finally:
            await asked.ref.ask(number)

    asker = ActorSpec("asker", Scripted, grace_s=1)
    tree = Tree(SupervisorSpec("root", (asked, asker)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await asker.ref.tell(ask_at_the_end)
        await trio.testing.wait_all_tasks_blocked()
        tree.stop()
    assert asker.ref.status.last_exit is not None
    assert str(asker.ref.status.last_exit) == "killed"
