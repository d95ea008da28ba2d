"""A server below a keeper says that no more clients are wanted when it drains, and only then."""

import mmap
import socket

import trio

from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.http.held_server import HeldServer, HeldSocket
from llmactors.http.keeper_link import KeeperLink
from llmactors.http.server import ServerSettings
from llmactors.keeper.gateway_process import received
from llmactors.keeper.protocol import StopAccepting
from llmactors.keeper.slots import SLOT_BYTES


async def test_address_stays_open_until_a_drain() -> None:
    """A gateway that ends by a fault is replaced, and so is one that was never the active one."""
    keeper, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with keeper, channel:
        held = HeldSocket(KeeperLink(channel, mmap.mmap(-1, SLOT_BYTES), "token", ("127.0.0.1", 8000)))
        assert held.url == "http://127.0.0.1:8000"
        held.close()
        assert not [*received(keeper)]
        with trio.fail_after(5):
            await HeldServer(None, held, ServerSettings(), NATIVE_ERRORS).drain()  # type: ignore[arg-type]
        assert [message for message, _ in received(keeper)] == [StopAccepting()]
