"""All connections that the keeper holds, and the listening socket from which they come."""

import errno
import mmap
import os
import resource
import socket
from collections.abc import Iterable, Iterator

from llmactors.keeper.connections import ConnectionCopy, Packet
from llmactors.keeper.protocol import Done, Large, Message, Note, Piece, Trim, Unprotected
from llmactors.keeper.slots import SLOT_BYTES, forget_slot

MAX_JOURNALS_BYTES = 256 * 1024 * 1024
"""The most bytes of all journals. Gateways hold less; beyond this, journals are given up."""
ACCEPT_AT_ONCE = 32
_BACKLOG = 1024
_SPARE_FILES = 32
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class ConnectionTable:
    """Has at most `limit` connections, or as many as the process may have files."""

    def __init__(self, listener: socket.socket, limit: int) -> None:
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        self.limit = min(limit, files - _SPARE_FILES) if files > 0 else limit
        self.listener = listener
        self.slots = os.memfd_create("llmactors-slots")
        os.ftruncate(self.slots, self.limit * SLOT_BYTES)
        self._memory = mmap.mmap(self.slots, self.limit * SLOT_BYTES)
        self.connections: dict[int, ConnectionCopy] = {}
        self._free_slots: list[int] = []
        self._last_cid = self._journals_bytes = 0

    def __repr__(self) -> str:
        return f"<ConnectionTable {len(self.connections)} of {self.limit}>"

    @property
    def has_room(self) -> bool:
        """Whether another connection can be accepted."""
        return len(self.connections) < self.limit

    def listen(self) -> None:
        """Lets clients connect."""
        self.listener.listen(_BACKLOG)

    def accept(self) -> Iterator[Packet]:
        """Accepts clients that wait, and makes the packets that give them to a gateway.

        Raises `OSError` where the process or the system has no room left.
        """
        for _ in range(min(ACCEPT_AT_ONCE, self.limit - len(self.connections))):
            try:
                accepted, _ = self.listener.accept()
            except OSError as error:
                if error.errno in _FULL:
                    raise
                return  # nobody waits, or the client is gone
            accepted.setblocking(False)
            self._last_cid += 1
            slot = self._free_slots.pop() if self._free_slots else len(self.connections)
            connection = self.connections[self._last_cid] = ConnectionCopy(accepted.detach(), slot)
            yield from connection.packets(self._last_cid, taken_over=False)

    def change(self, message: Message, fd: int) -> bool:
        """Does what a gateway says of a connection, and returns whether the descriptor is held."""
        match message:
            case Done(cid) if cid in self.connections:
                self.close(cid)
            case Piece(cid) | Note(cid) | Trim(cid) | Large(cid) | Unprotected(cid) if cid in self.connections:
                return self._change(self.connections[cid], message, fd)
        return False

    @property
    def unprotected(self) -> set[int]:
        """The connections that cannot outlive their gateway."""
        return {cid for cid, connection in self.connections.items() if not connection.protected}

    def close_all(self, cids: Iterable[int]) -> None:
        """As `close`, for each of these."""
        for cid in cids:
            self.close(cid)

    def close(self, cid: int) -> None:
        """Ends a connection. The slot holds no record for the next one."""
        connection = self.connections.pop(cid)
        self._journals_bytes -= connection.close()
        forget_slot(self._memory, connection.slot)
        self._free_slots.append(connection.slot)

    def _change(self, connection: ConnectionCopy, message: Message, fd: int) -> bool:
        if isinstance(message, Piece):
            self._journals_bytes += connection.add(message)
        elif isinstance(message, Note):
            self._journals_bytes += connection.add_note(message)
        elif isinstance(message, Trim):
            self._journals_bytes -= connection.trim(message)
        elif isinstance(message, Large) and fd >= 0:
            connection.add_large(message.generation, fd)
            return True
        if isinstance(message, Unprotected | Large) or self._journals_bytes > MAX_JOURNALS_BYTES:
            self._journals_bytes -= connection.forget()
        return False
