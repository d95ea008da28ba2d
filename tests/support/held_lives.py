"""A gateway that dies at a chosen point, in this process: real TCP sockets, the keeper's messages, and one ledger.

A point is a step of the gateway that others can see: a record, a send, a read, a message to the keeper, an admission.
At the chosen point the life is dead: from there on nothing that its tasks do has an effect, as after SIGKILL. The next
life gets the connections as the keeper gives them.
"""

import contextlib
import mmap
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from llmactors.errors import Unavailable
from llmactors.gateway.admission import Admitter
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.request_service import RequestService
from llmactors.http.held_connection import HeldServerConnection
from llmactors.http.held_journal import HeldJournal
from llmactors.http.held_server import HeldServer, HeldSocket
from llmactors.http.keeper_link import KeeperLink
from llmactors.http.server import ServerSettings
from llmactors.http.write_records import STORES, store_record
from llmactors.keeper.connections import ConnectionCopy
from llmactors.keeper.gateway_process import received
from llmactors.keeper.protocol import AllGiven, Done, Large, Message, Note, Piece, Trim, Unprotected, encode
from llmactors.keeper.slots import SLOT_BYTES
from llmactors.system.node import Node
from llmactors.testing.node import wait_until

NEVER = 1 << 60
Point = int | tuple[str, int]
"""A point by its number, or by its name and how often it was passed, both counted from 1."""


class Life:
    """One gateway process, up to its death."""

    def __init__(self, lives: "Lives") -> None:
        self.lives = lives
        self.alive = True
        self.scope = trio.CancelScope()
        self.channel, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.link = MortalLink(self.theirs, lives.slots, lives.token, ("127.0.0.1", 1), end_process=self.die)
        self.link.life = self

    def point(self, name: str) -> None:
        """A step that others can see. At the chosen point the life ends."""
        lives = self.lives
        if self.alive:
            lives.points.append(name)
            at = lives.die_at
            if len(lives.points) >= at if isinstance(at, int) else (name, lives.points.count(name)) == at:
                lives.die_at = len(lives.points) + lives.again_after
                lives.again_after = NEVER
                self.die()

    def die(self) -> None:
        """Ends the life: what its tasks do from here on has no effect."""
        if self.alive:
            self.alive = False
            self.lives.deaths.send_nowait(self)


class MortalLink(KeeperLink):
    """A link whose messages are points."""

    life: Life

    def _send_packet(self, packet: bytes, fd: int | None) -> None:
        self.life.point(f"before message {packet[:1].decode()}")
        if self.life.alive:
            super()._send_packet(packet, fd)
            self.life.point(f"behind message {packet[:1].decode()}")


class MortalSocket:
    """A socket whose reads and writes are points."""

    def __init__(self, raw: socket.socket, life: Life) -> None:
        self._raw = raw
        self._life = life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _check(self, name: str) -> None:
        self._life.point(name)
        if not self._life.alive:
            raise OSError("this life is over")

    def send(self, data: Any) -> int:
        self._check("before send")
        self._life.point("amid send")
        if not self._life.alive:
            return self._raw.send(data[: len(data) // 2])
        sent = self._raw.send(data[: self._life.lives.most_sent])
        self._life.point("behind send")
        return sent

    def recv(self, *args: int) -> bytes:
        self._check("before peek")
        return self._raw.recv(*args)

    def recv_into(self, *args: Any) -> int:
        self._check("before read")
        found = self._raw.recv_into(*args)
        self._life.point("behind read")
        return found

    def shutdown(self, how: int) -> None:
        self._check("before shutdown")
        self._raw.shutdown(how)

    def setsockopt(self, *args: Any) -> None:
        if self._life.alive:
            self._raw.setsockopt(*args)


class Lives:
    """Gateways one after the other, on one node's ledger and models, and the keeper between them."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slots = mmap.mmap(-1, 64 * SLOT_BYTES)
        self.token = "t"
        self.points: list[str] = []
        """The points that were passed since `start`."""
        self.die_at: Point = NEVER
        """The point at which the life ends."""
        self.again_after = NEVER
        """How many points later the next life ends too."""
        self.most_sent = 1 << 30
        """The most bytes that the kernel takes in one write."""
        self.connections: dict[int, ConnectionCopy] = {}
        self.cut: list[str] = []
        """Why connections were cut."""
        self.takeovers = 0
        self.settings = ServerSettings()
        self._make_app = node._gateway.factory()._make_app  # type: ignore[attr-defined]
        self.client_count = 0
        """How many clients there were; also the id of the last one's connection."""
        self.deaths, self._deaths = trio.open_memory_channel[Life](16)
        self.life = self.writer = Life(self)
        self._patch(monkeypatch)

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for owner, name, mortal in (
            (HeldServerConnection, "__init__", self._mortal_connection),
            (HeldServerConnection, "_record", self._mortal("record")),
            (HeldServerConnection, "write_chunk_nowait", self._mortal_chunk),
            (HeldServerConnection, "note_answer", self._mortal("note")),
            (HeldJournal, "_store", self._mortal("journal")),
            (HeldServerConnection, "give_up", self._noted_cut),
            (Admitter, "__init__", self._mortal_admitter),
            (Admitter, "admit_all", self._mortal_admission),
            (RequestService, "abandon", self._mortal_abandoning),
            (RequestService, "cancel", self._mortal_cancel),
        ):
            monkeypatch.setattr(owner, name, mortal(getattr(owner, name)))
        stores = [self._of_the_living(store) for store in STORES]
        for name, of_the_living in (("STORES", stores), ("store_record", self._of_the_living(store_record))):
            monkeypatch.setattr(f"llmactors.http.held_connection.{name}", of_the_living)

    def _of_the_living(self, store: Any) -> Any:
        """What stores a record, unless the life is over that writes."""

        def of_the_living(*args: Any) -> None:
            if self.writer.alive:
                store(*args)

        return of_the_living

    def _mortal_connection(self, begin: Any) -> Any:
        def mortal(connection: Any, *args: Any) -> None:
            begin(connection, *args)
            connection._raw = MortalSocket(connection._raw, connection._link.life)

        return mortal

    def _mortal(self, name: str) -> Any:
        def mortal_of(store: Any) -> Any:
            def mortal(connection: Any, *args: Any) -> None:
                life = connection._link.life
                life.point(f"before {name}")
                if life.alive:
                    self.writer = life
                    store(connection, *args)
                    life.point(f"behind {name}")

            return mortal

        return mortal_of

    def _mortal_chunk(self, write: Any) -> Any:
        """A chunk that is recorded and sent. Behind its record is before its send."""

        def mortal(connection: Any, data: bytes) -> Any:
            life = connection._link.life
            life.point("before record of chunk")
            self.writer = life
            return write(connection, data) if life.alive else None

        return mortal

    def _noted_cut(self, give_up: Any) -> Any:
        def noted(connection: Any, why: str) -> None:
            if connection._link.life.alive:
                self.cut.append(why)
            give_up(connection, why)

        return noted

    def _mortal_admitter(self, begin: Any) -> Any:
        def mortal(admitter: Any, *args: Any, **more: Any) -> None:
            begin(admitter, *args, **more)
            admitter.life = self.life

        return mortal

    def _mortal_admission(self, admit_all: Any) -> Any:
        async def mortal(admitter: Any, *args: Any, **more: Any) -> Any:
            if not hasattr(admitter, "life"):
                return await admit_all(admitter, *args, **more)  # of the gateway of the node, which lives on
            admitter.life.point("before admission")
            if not admitter.life.alive:
                raise Unavailable("this life is over")
            found = await admit_all(admitter, *args, **more)
            admitter.life.point("behind admission")
            return found

        return mortal

    def _mortal_abandoning(self, abandon: Any) -> Any:
        async def mortal(service: Any, request_id: str) -> None:
            if not hasattr(service._admitter, "life") or service._admitter.life.alive:
                await abandon(service, request_id)

        return mortal

    def _mortal_cancel(self, cancel: Any) -> Any:
        async def mortal(service: Any, caller: Any, request_id: str, *more: Any) -> Any:
            life = service._admitter.life
            life.point("before cancel")
            if not life.alive:
                raise Unavailable("this life is over")
            found = await cancel(service, caller, request_id, *more)
            # The next life comes so late that the request has ended.
            while (await service.info(caller, request_id)).state != "ended":  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.001)
            life.point("behind cancel")
            return found

        return mortal

    async def run(self) -> None:
        """Runs lives until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live, self.life)
            async for dead in self._deaths:
                dead.scope.cancel(reason="this life is over")
                self._hear(dead)
                dead.channel.close()
                self.takeovers += 1
                self.life = Life(self)
                for cid in list(self.connections):
                    if self.connections[cid].protected:
                        self._give(cid, taken_over=True)
                    else:
                        self.close(cid)
                self._send(encode(AllGiven()), -1)
                nursery.start_soon(self._live, self.life)

    async def _live(self, life: Life) -> None:
        with life.scope, life.theirs:
            app, service = self._make_app()
            server = HeldServer(app, HeldSocket(life.link), self.settings, NATIVE_ERRORS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.run)
                nursery.start_soon(server.serve)
                nursery.start_soon(self._listen, life)

    async def _listen(self, life: Life) -> None:
        while life.alive:
            await trio.lowlevel.wait_readable(life.channel)
            self._hear(life)

    def _hear(self, life: Life) -> None:
        for message, fd in received(life.channel):
            if message is not None:
                self._note(message, fd)

    def _note(self, message: Message, fd: int) -> None:
        connection = self.connections.get(getattr(message, "cid", 0))
        if connection is None:
            return
        match message:
            case Piece():
                connection.add(message)
            case Note():
                connection.add_note(message)
            case Trim():
                connection.trim(message)
            case Large(_, generation):
                connection.add_large(generation, fd)
            case Unprotected():
                connection.forget()
            case Done(cid):
                self.close(cid)
            case _:
                pass

    def close(self, cid: int) -> None:
        """Ends a connection, and forgets its records."""
        connection = self.connections.pop(cid)
        connection.close()
        self.slots[connection.slot * SLOT_BYTES : (connection.slot + 1) * SLOT_BYTES] = bytes(SLOT_BYTES)

    def _give(self, cid: int, *, taken_over: bool) -> None:
        for data, fd in self.connections[cid].packets(cid, taken_over=taken_over):
            self._send(data, fd)

    def _send(self, data: bytes, fd: int) -> None:
        socket.send_fds(self.life.channel, [data], [fd] if fd >= 0 else [])

    @contextlib.asynccontextmanager
    async def client(self, die_at: Point = NEVER, **options: int) -> AsyncIterator[trio.SocketStream]:
        """A connection, with the options of its own socket. The life ends at the point `die_at` from here."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            with socket.socket() as own:
                for name, value in options.items():
                    own.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
                own.connect(listener.getsockname())
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                own.setblocking(False)
                self.points.clear()
                self.cut.clear()
                self.die_at = die_at
                self.client_count += 1
                slot = self.client_count % 64
                self.connections[self.client_count] = ConnectionCopy(accepted.detach(), slot)
                self._give(self.client_count, taken_over=False)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(own.dup())) as stream:
                    own.close()
                    try:
                        yield stream
                    finally:
                        self.die_at = NEVER
                cid = self.client_count
                await wait_until(lambda: cid not in self.connections)


@contextlib.asynccontextmanager
async def lives_of(node: Node, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lives]:
    """Lives on a node that runs."""
    lives = Lives(node, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lives.run)
        yield lives
        nursery.cancel_scope.cancel(reason="the test is over")
    lives.life.channel.close()
    for cid in list(lives.connections):
        lives.close(cid)
