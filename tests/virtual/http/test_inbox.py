"""The inbox passes the messages of a client to the application."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.http.inbox import CAPACITY, ApplicationTasks, Inbox

GONE = {"type": "http.disconnect"}


def part(number: int) -> dict[str, Any]:
    return {"type": "http.request", "body": b"%d" % number, "more_body": True}


async def test_messages_come_in_order_and_the_last_one_repeats() -> None:
    inbox = Inbox()
    for number in range(3):
        await inbox.put(part(number))
    await inbox.put(GONE)

    assert [await inbox() for _ in range(5)] == [part(0), part(1), part(2), GONE, GONE]


async def test_full_inbox_blocks_the_sender(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    for number in range(CAPACITY):
        await inbox.put(part(number))
    with trio.move_on_after(1) as scope:
        await inbox.put(part(99))
    assert scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, part(CAPACITY))
        received = [await inbox() for _ in range(CAPACITY + 1)]
    assert received == [part(number) for number in range(CAPACITY + 1)]


async def test_last_message_never_waits_and_releases_senders(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    for number in range(CAPACITY):
        await inbox.put(part(number))
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.put, part(99))
            await wait_all_tasks_blocked()
            await inbox.put(GONE)
    await inbox.put(part(100))

    assert [await inbox() for _ in range(CAPACITY)] == [part(number) for number in range(CAPACITY)]
    assert await inbox() == GONE


async def test_all_waiting_receivers_get_the_last_message() -> None:
    inbox = Inbox()
    heard = []

    async def receive() -> None:
        heard.append(await inbox())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await inbox.put(GONE)
    assert heard == [GONE, GONE]


async def test_disconnect_cancels_the_registered_scope() -> None:
    inbox = Inbox()
    await inbox.put(part(0))  # an unread message does not hide the disconnect
    with trio.CancelScope() as scope:
        inbox.cancel_at_last(scope)
        await inbox.put(GONE)
        await trio.sleep_forever()
    assert scope.cancelled_caught

    with trio.CancelScope() as later:
        inbox.cancel_at_last(later)
        await trio.sleep_forever()
    assert later.cancelled_caught


async def test_disconnect_cancels_no_unregistered_scope() -> None:
    inbox = Inbox()
    with trio.CancelScope() as scope:
        inbox.cancel_at_last(scope)
        inbox.cancel_at_last(None)
        await inbox.put(GONE)
        await trio.lowlevel.checkpoint()
    assert not scope.cancel_called


async def test_failing_exchange_is_logged_and_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[object] = []

    async def app(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("a fault")

    async def send(message: object) -> None:
        sent.append(message)

    async with trio.open_nursery() as nursery:
        await ApplicationTasks(nursery).spawn_app(app, None, {"path": "/x"}, send)
    assert sent == [None]


async def test_cancelled_exchange_answers_nothing() -> None:
    sent: list[object] = []

    async def app(scope: object, receive: object, send: object) -> None:
        await trio.sleep_forever()

    async def send(message: object) -> None:
        sent.append(message)

    async with trio.open_nursery() as nursery:
        await ApplicationTasks(nursery).spawn_app(app, None, {"path": "/x"}, send)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not sent


async def test_background_tasks_end_with_the_connection(autojump_clock: MockClock) -> None:
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            tasks = ApplicationTasks(nursery)
            tasks.spawn(trio.sleep, 20)
            await wait_all_tasks_blocked()
            tasks.spawn(trio.sleep_forever)
            tasks.end_background()
