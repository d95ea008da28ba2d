"""The messages of a gateway, as the keeper reads them."""

import os
import socket
from pathlib import Path

import pytest

from llmactors.keeper.gateway_process import memory_kills, received
from llmactors.keeper.protocol import Active, Done, Large, Piece, encode


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_last_messages_of_an_ended_gateway_are_read() -> None:
    """Linux tells of messages that the gateway left unread before it gives what the gateway had sent."""
    ours, theirs = pair()
    with ours:
        ours.send(b"never read")
        for message in (Piece(1, 0, b"GET /"), Done(2)):
            theirs.send(encode(message))
        theirs.close()
        assert list(received(ours)) == [(Piece(1, 0, b"GET /"), -1), (Done(2), -1), (None, -1)]


@pytest.mark.parametrize("kills", ["nr_free_pages 7\noom_kill 12\npgpgin 3\n", "nr_free_pages 7\n", None])
def test_kills_for_want_of_memory_are_counted(
    kills: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that does not count them has killed nobody, as far as is known."""
    file = tmp_path / "vmstat"
    if kills is not None:
        file.write_text(kills)
    monkeypatch.setattr("llmactors.keeper.gateway_process._KILLS_FILE", str(file))
    assert memory_kills() == (12 if kills and "oom" in kills else 0)


def test_descriptor_comes_with_its_message() -> None:
    ours, theirs = pair()
    memory = os.memfd_create("large")
    with ours, theirs:
        socket.send_fds(theirs, [encode(Large(3, 7))], [memory])
        theirs.send(encode(Active()))
        (large, fd), active = received(ours)
        assert (large, active) == (Large(3, 7), (Active(), -1))
        assert os.fstat(fd).st_ino == os.fstat(memory).st_ino
        assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(memory)
