"""Many sockets are read in passes: deadlines, cancellation, floods, and sockets that nobody waits for."""

import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from llmactors.http.arrivals import FAIR_BYTES, INTERVAL_S, READ_BYTES, Arrivals, WatchedSocket

pytestmark = pytest.mark.integration


class Pair:
    """A watched socket, and the peer's socket."""

    def __init__(self, arrivals: Arrivals) -> None:
        self.own, self.peer = socket.socketpair()
        self.own.setblocking(False)
        self.watched = arrivals.watch(self.own)

    def close(self) -> None:
        self.watched.close()
        self.own.close()
        self.peer.close()


class Pairs:
    """Makes pairs, and closes all of them."""

    def __init__(self) -> None:
        self.arrivals = Arrivals.of_this_loop()
        self._made: list[Pair] = []

    def make(self) -> Pair:
        self._made.append(Pair(self.arrivals))
        return self._made[-1]

    def close(self) -> None:
        for pair in self._made:
            pair.close()


@pytest.fixture
async def pairs() -> AsyncIterator[Pairs]:
    made = Pairs()
    yield made
    made.close()


async def test_bytes_of_many_sockets_come_in_one_pass(pairs: Pairs) -> None:
    many = [pairs.make() for _ in range(60)]
    seen: list[bytes] = []

    async def receive(watched: WatchedSocket) -> None:
        seen.append(await watched.receive())

    async with trio.open_nursery() as nursery:
        for pair in many:
            nursery.start_soon(receive, pair.watched)
        await trio.testing.wait_all_tasks_blocked()
        before = pairs.arrivals.passes
        for number, pair in enumerate(many):
            pair.peer.send(b"%d" % number)
    assert sorted(seen, key=int) == [b"%d" % number for number in range(60)]
    assert pairs.arrivals.passes - before <= 2


async def test_first_byte_after_a_pause_is_read_at_once(pairs: Pairs) -> None:
    pair, *_ = [pairs.make() for _ in range(200)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.watched.receive)
        await trio.sleep(2 * INTERVAL_S)
        before = pairs.arrivals.passes
        pair.peer.send(b"x")
        for _ in range(4):
            await trio.lowlevel.checkpoint()
        assert pairs.arrivals.passes == before + 1


async def test_urgent_bytes_do_not_wait_for_the_next_pass(pairs: Pairs) -> None:
    many = [pairs.make() for _ in range(40)]
    urgent = pairs.make()
    read: list[bytes] = []

    async def receive_at_once() -> None:
        read.append(await urgent.watched.receive(at_once=True))

    async with trio.open_nursery() as nursery:
        for pair in many:
            nursery.start_soon(pair.watched.receive)
        nursery.start_soon(receive_at_once)
        await trio.testing.wait_all_tasks_blocked()
        many[0].peer.send(b"x")  # a pass at once, and from now on passes at the ticks of a timer
        before = pairs.arrivals.passes
        while pairs.arrivals.passes == before:
            await trio.lowlevel.checkpoint()
        urgent.peer.send(b"first token")
        for _ in range(4):
            await trio.lowlevel.checkpoint()
        assert (read, pairs.arrivals.passes) == ([b"first token"], before + 1)
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_socket_may_become_urgent_and_back(pairs: Pairs) -> None:
    pair = pairs.make()
    for number in range(4):
        pair.peer.send(b"%d" % number)
        assert await pair.watched.receive(at_once=number % 2 == 0) == b"%d" % number


async def test_deadline_ends_a_wait_and_the_next_wait_works(pairs: Pairs) -> None:
    pair = pairs.make()
    with pytest.raises(trio.TooSlowError):
        await pair.watched.receive(trio.current_time() + 0.01)
    pair.peer.send(b"late")
    assert await pair.watched.receive(trio.current_time() + 5) == b"late"


async def test_earlier_deadline_of_another_wait_is_kept(pairs: Pairs) -> None:
    slow, fast = pairs.make(), pairs.make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow.watched.receive, trio.current_time() + 60)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5), pytest.raises(trio.TooSlowError):
            await fast.watched.receive(trio.current_time() + 0.01)
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize("at_once", [False, True])
async def test_bytes_that_came_before_the_deadline_are_read(pairs: Pairs, at_once: bool) -> None:
    pair = pairs.make()
    pair.peer.send(b"in time")
    assert await pair.watched.receive(trio.current_time() - 1, at_once=at_once) == b"in time"


async def test_cancelled_wait_loses_no_bytes(pairs: Pairs) -> None:
    pair = pairs.make()
    with trio.move_on_after(0.01) as scope:
        await pair.watched.receive()
    assert scope.cancelled_caught
    pair.peer.send(b"kept")
    assert await pair.watched.receive() == b"kept"


async def test_socket_that_nobody_awaits_causes_no_passes(pairs: Pairs) -> None:
    pair = pairs.make()
    pair.peer.send(b"1")
    assert await pair.watched.receive() == b"1"
    pair.peer.send(b"2")
    await trio.sleep(0.02)
    before = pairs.arrivals.passes
    await trio.sleep(0.05)
    assert pairs.arrivals.passes - before <= 1
    assert await pair.watched.receive() == b"2"


async def test_ended_connection_that_nobody_awaits_causes_no_passes(pairs: Pairs) -> None:
    pair = pairs.make()
    pair.peer.send(b"1")
    assert await pair.watched.receive() == b"1"
    pair.peer.close()
    await trio.sleep(0.02)
    before = pairs.arrivals.passes
    await trio.sleep(0.05)
    assert pairs.arrivals.passes - before <= 1
    assert await pair.watched.receive() == b""


async def test_close_wakes_the_waiting_task(pairs: Pairs) -> None:
    pair = pairs.make()
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.watched.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        pair.watched.close()
    with pytest.raises(trio.ClosedResourceError):
        await pair.watched.receive()


async def test_broken_connection_raises_its_error(pairs: Pairs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    own.setblocking(False)
    watched = pairs.arrivals.watch(own)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(ConnectionResetError):
        await watched.receive()
    watched.close()
    own.close()


async def test_flood_of_many_sockets_lets_other_tasks_run(pairs: Pairs) -> None:
    many = [pairs.make() for _ in range(40)]
    bytes_of_turn: Counter[int] = Counter()
    turns = 0

    async def receive(watched: WatchedSocket) -> None:
        received = 0
        while received < 4 * READ_BYTES:
            size = len(await watched.receive())
            received += size
            bytes_of_turn[turns] += size

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    for pair in many:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * READ_BYTES)
        pair.peer.send(bytes(4 * READ_BYTES))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        async with trio.open_nursery() as receivers:
            for pair in many:
                receivers.start_soon(receive, pair.watched)
        nursery.cancel_scope.cancel(reason="the test is over")
    assert bytes_of_turn.total() == 40 * 4 * READ_BYTES
    # Trio runs the tasks of a turn in any order, so the counter may run first in one turn and last in the next.
    assert max(bytes_of_turn.values()) <= 2 * (FAIR_BYTES + READ_BYTES)


async def test_wait_that_begins_in_a_pass_is_read_before_it_ends(pairs: Pairs) -> None:
    flood = [pairs.make() for _ in range(3 * FAIR_BYTES // READ_BYTES)]
    late = pairs.make()
    late.peer.send(b"in time")
    received: list[bytes] = []

    async def receive(watched: WatchedSocket) -> None:
        await watched.receive()
        if not received:  # the pass lets this task run before the pass has read all sockets
            received.append(b"")
            received.append(await late.watched.receive(trio.current_time() - 1))

    for pair in flood:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_BYTES)
        pair.peer.send(bytes(READ_BYTES))
    async with trio.open_nursery() as nursery:
        for pair in flood:
            nursery.start_soon(receive, pair.watched)
    assert received[-1] == b"in time"


async def test_socket_that_cannot_be_watched_can_be_closed(pairs: Pairs, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:  # the kernel reports no bytes of files
        watched = pairs.arrivals.watch(cast("socket.socket", file))
        with pytest.raises(PermissionError):
            await watched.receive()
        watched.close()


@pytest.mark.parametrize("at_once", [False, True])
def test_socket_can_be_closed_after_the_loop_has_ended(at_once: bool) -> None:
    own, peer = socket.socketpair()
    own.setblocking(False)

    async def receive_once() -> WatchedSocket:
        watched = Arrivals.of_this_loop().watch(own)
        with trio.move_on_after(0.01):
            await watched.receive(at_once=at_once)
        return watched

    watched = trio.run(receive_once)
    watched.close()
    own.close()
    peer.close()
