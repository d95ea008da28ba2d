"""A mailbox is bounded, keeps the order, delivers control first, and loses or doubles no message in any race."""

import contextlib
from collections.abc import Callable

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.actors import Down, Exit, ExitKind, Overflow
from llmactors.actors.envelope import Envelope
from llmactors.actors.errors import ActorDied, MailboxFull
from llmactors.actors.mailbox import Mailbox


def never() -> bool:
    return False


async def take(mailbox: Mailbox, incarnation: int = 1) -> object:
    event = await mailbox.get(incarnation, never)
    return event.message if isinstance(event, Envelope) else event


def down(incarnation: int = 1) -> Down:
    return Down("other", incarnation, Exit(ExitKind.NORMAL))


async def test_messages_are_received_in_order() -> None:
    mailbox = Mailbox("a", 3, Overflow.BLOCK)
    for number in range(3):
        mailbox.put_nowait(Envelope(number))
    assert [await take(mailbox) for _ in range(3)] == [0, 1, 2]
    assert mailbox.statistics().peak == 3


async def test_full_blocking_mailbox_makes_its_sender_wait(autojump_clock: MockClock) -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    mailbox.put_nowait(Envelope(1))
    with pytest.raises(MailboxFull):
        mailbox.put_nowait(Envelope("refused"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, Envelope(2))
        await wait_all_tasks_blocked()
        nursery.start_soon(mailbox.put, Envelope(3))
        await wait_all_tasks_blocked()
        assert mailbox.statistics().blocked_senders == 2
        assert [await take(mailbox) for _ in range(3)] == [1, 2, 3]


async def test_sender_waits_within_its_own_cancel_scope(autojump_clock: MockClock) -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    mailbox.put_nowait(Envelope(1))
    with pytest.raises(trio.TooSlowError), trio.fail_after(7):
        await mailbox.put(Envelope(2))
    assert trio.current_time() == 7
    assert [envelope.message for envelope in mailbox.drain()] == [1]


async def test_expired_sender_succeeds_if_there_is_room() -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    with trio.move_on_after(0):
        await mailbox.put(Envelope(1))
    assert await take(mailbox) == 1


async def test_full_rejecting_mailbox_refuses_at_once() -> None:
    mailbox = Mailbox("a", 1, Overflow.REJECT)
    mailbox.put_nowait(Envelope(1))
    with pytest.raises(MailboxFull):
        await mailbox.put(Envelope(2))
    assert await take(mailbox) == 1


async def test_full_dropping_mailbox_keeps_the_newest_in_order() -> None:
    dropped = []
    mailbox = Mailbox("a", 2, Overflow.DROP_OLDEST)
    mailbox.on_overflow = lambda envelope: dropped.append(envelope.message)
    for number in range(5):
        await mailbox.put(Envelope(number))
    assert dropped == [0, 1, 2]
    assert [await take(mailbox) for _ in range(2)] == [3, 4]


async def test_drop_may_be_reported_to_the_same_mailbox() -> None:
    mailbox = Mailbox("a", 2, Overflow.DROP_OLDEST)
    reported = []

    def report(envelope: Envelope) -> None:
        if envelope.message != "report":
            reported.append(envelope.message)
            mailbox.put_nowait(Envelope("report"))

    mailbox.on_overflow = report
    for number in range(4):
        mailbox.put_nowait(Envelope(number))
    assert len(mailbox.drain()) == 2
    assert reported[0] == 0


async def test_stop_precedes_control_and_control_precedes_data() -> None:
    mailbox = Mailbox("a", 3, Overflow.BLOCK)
    mailbox.put_nowait(Envelope(1))
    mailbox.put_control(1, down())
    mailbox.put_control(1, down(2))
    assert await mailbox.get(1, lambda: True) is None
    events = [await take(mailbox) for _ in range(3)]
    assert [event.incarnation if isinstance(event, Down) else event for event in events] == [1, 2, 1]


async def test_full_mailbox_accepts_control() -> None:
    mailbox = Mailbox("a", 1, Overflow.REJECT)
    mailbox.put_nowait(Envelope(1))
    for _ in range(1000):
        mailbox.put_control(1, down())
    assert mailbox.statistics().control == 1000


async def test_control_for_an_earlier_incarnation_is_ignored() -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    mailbox.put_control(1, down())
    mailbox.put_nowait(Envelope("data"))
    assert await take(mailbox, incarnation=2) == "data"
    assert mailbox.statistics().control == 0


async def test_message_put_back_is_received_next() -> None:
    mailbox = Mailbox("a", 2, Overflow.BLOCK)
    mailbox.put_nowait(Envelope(1))
    mailbox.put_nowait(Envelope(2))
    first = await mailbox.get(1, never)
    assert isinstance(first, Envelope)
    mailbox.put_back(first)
    assert mailbox.statistics().depth == 2
    assert [await take(mailbox) for _ in range(2)] == [1, 2]


async def test_blocked_sender_fails_when_the_actor_ends() -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    mailbox.put_nowait(Envelope(1))
    told = []

    async def put() -> None:
        with pytest.raises(ActorDied):
            await mailbox.put(Envelope(2))
        told.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await wait_all_tasks_blocked()
        mailbox.closed = True
        assert [envelope.message for envelope in mailbox.drain()] == [1, 2]
        mailbox.closed = False  # opened again before the sender ran; its message is lost all the same
    assert told == [True]


async def test_received_message_never_fails_its_sender() -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    mailbox.put_nowait(Envelope(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, Envelope(2))
        await wait_all_tasks_blocked()
        assert mailbox._receive.receive_nowait().message == 1
        assert mailbox._receive.receive_nowait().message == 2
        mailbox.closed = True
        assert mailbox.drain() == []


async def test_closed_mailbox_refuses_messages() -> None:
    mailbox = Mailbox("a", 1, Overflow.BLOCK)
    mailbox.closed = True
    with pytest.raises(ActorDied):
        await mailbox.put(Envelope(1))
    with pytest.raises(ActorDied):
        mailbox.put_nowait(Envelope(1))


@pytest.mark.parametrize("first", ["data", "control", "cancel"])
@pytest.mark.parametrize("second", ["data", "control", "cancel"])
async def test_events_at_the_same_moment_lose_no_message(first: str, second: str) -> None:
    """Each message is received once, in whatever order events wake the waiting receiver."""
    mailbox = Mailbox("a", 9, Overflow.BLOCK)
    got: list[object] = []
    scope = trio.CancelScope()

    async def receive() -> None:
        with scope:
            while True:
                got.append(await take(mailbox))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        acts: dict[str, Callable[[], None]] = {
            "data": lambda: mailbox.put_nowait(Envelope("data")),
            "control": lambda: mailbox.put_control(1, down()),
            "cancel": scope.cancel,
        }
        acts[first]()
        acts[second]()
        await wait_all_tasks_blocked()
        scope.cancel()
    sent = [first, second].count("data")
    assert [*got, *(envelope.message for envelope in mailbox.drain())].count("data") == sent


@attrs.frozen
class Act:
    what: str
    steps: int


@given(
    st.lists(
        st.builds(Act, st.sampled_from(["put", "put_nowait", "control", "cancel"]), st.integers(0, 3)), max_size=20
    ),
    st.integers(1, 3),
    st.sampled_from([Overflow.BLOCK, Overflow.REJECT]),
)
def test_each_message_is_received_once_in_its_senders_order(acts: list[Act], capacity: int, overflow: Overflow) -> None:
    async def main() -> None:
        mailbox = Mailbox("a", capacity, overflow)
        received: list[object] = []
        accepted: list[object] = []

        async def receive(scope: trio.CancelScope) -> None:
            with scope:
                while True:
                    received.append(await take(mailbox))

        async def put(act: Act, number: int) -> None:
            with contextlib.suppress(MailboxFull):
                if act.what == "put":
                    await mailbox.put(Envelope(number))
                else:
                    mailbox.put_nowait(Envelope(number))
                accepted.append(number)

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(receive, scope)
            for number, act in enumerate(acts):
                for _ in range(act.steps):
                    await trio.lowlevel.checkpoint()
                if act.what in {"put", "put_nowait"}:
                    await put(act, number)
                elif act.what == "control":
                    mailbox.put_control(1, down())
                else:
                    # The receiver dies, and the next incarnation continues.
                    scope.cancel()
                    await wait_all_tasks_blocked()
                    scope = trio.CancelScope()
                    nursery.start_soon(receive, scope)
            await wait_all_tasks_blocked()
            scope.cancel()
        assert [event for event in received if not isinstance(event, Down)] == accepted
        assert len(received) - len(accepted) == sum(1 for act in acts if act.what == "control")

    trio.run(main)
