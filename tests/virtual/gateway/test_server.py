"""Accepting, when there is trouble with it."""

import errno
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from llmactors.errors import BindError, ConfigError
from llmactors.gateway.server import ListeningSocket, Server, ServerSettings


class Listener:
    """Raises one error after another, and then accepts."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    async def accept(self) -> tuple[str, None]:
        await trio.lowlevel.checkpoint()
        if self._errors:
            raise OSError(self._errors.pop(0), "trouble")
        return "a connection", None


async def accept(listener: Listener) -> Any:
    listening = ListeningSocket("127.0.0.1:0")
    try:
        server = Server(None, listening, ServerSettings())  # type: ignore[arg-type]
        return await server._accept(listener)  # type: ignore[arg-type]
    finally:
        listening.close()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_without_files_it_waits_for_some(error: int, autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    assert await accept(Listener(error, error)) == "a connection"
    assert trio.current_time() - begun == pytest.approx(0.2)


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO])
async def test_client_gone_before_it_was_accepted_is_passed_over(error: int) -> None:
    assert await accept(Listener(error, error)) == "a connection"


async def test_other_errors_end_the_server() -> None:
    with pytest.raises(OSError, match="trouble"):
        await accept(Listener(errno.EBADF))


def test_address_in_use_is_told_at_once() -> None:
    first = ListeningSocket("127.0.0.1:0")
    first.listen()
    try:
        with pytest.raises(BindError, match="another process listens there"):
            ListeningSocket(first.url.removeprefix("http://"))
    finally:
        first.close()


@pytest.mark.parametrize("bind", ["", "8000", "localhost", "localhost:", ":x", "a:70000", "a:-1"])
def test_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        ListeningSocket(bind)


def test_ipv6_address_is_written_as_a_url() -> None:
    try:
        listening = ListeningSocket("[::1]:0")
    except BindError:
        pytest.skip("no IPv6 here")
    with listening.socket:
        assert listening.url.startswith("http://[::1]:")
