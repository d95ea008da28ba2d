"""The HTTP/1.1 protocol machine, without a socket."""

from typing import Any

import pytest
import trio

from llmactors.http.byte_budget import ByteBudget
from llmactors.http.http1 import Http1
from llmactors.http.inbox import Inbox
from llmactors.http.protocol_settings import ProtocolSettings
from llmactors.http.request_head import origin_form


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"/v1/tree", b"/v1/tree"),
        (b"/v1/tree?x=1", b"/v1/tree?x=1"),
        (b"http://host:80/v1/streams/x?after=3", b"/v1/streams/x?after=3"),
        (b"HTTP://host", b"/"),
        (b"http://host?x", b"/?x"),
        (b"/a?u=http://b/c", b"/a?u=http://b/c"),
        (b"//host/path", b"//host/path"),
        (b"*", b"*"),
        (b"host:443", b"host:443"),
        (b"http://[::1/x", b"/x"),
    ],
)
def test_absolute_target_is_read_as_its_path(target: bytes, origin: bytes) -> None:
    assert origin_form(target) == origin


class Tasks:
    """Accepts the applications that the machine starts, and runs none of them."""

    def __init__(self) -> None:
        self.sends: list[Any] = []

    def spawn_exchange(self, app: object, scope: object, send: Any) -> Inbox:
        self.sends.append(send)
        return Inbox()


async def test_chunk_is_written_only_between_head_and_end() -> None:
    written: list[bytes] = []

    class Output:
        async def write(self, data: bytes) -> None:
            written.append(data)

        def set_idle(self, *, idle: bool) -> None: ...

        async def end(self) -> None: ...

        async def wait_aside(self, event: trio.Event) -> None: ...

    tasks: Any = Tasks()
    settings = ProtocolSettings(1024, lambda _status, _message: ([], b""), lambda: False, ByteBudget())
    machine = Http1(None, settings, tasks, Output(), None, None)  # type: ignore[arg-type]
    await machine.received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    [say] = tasks.sends
    allowed = [machine.may_continue_body]
    for message in (
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"", "more_body": True},
        {"type": "http.response.body", "body": b"end", "more_body": False},
    ):
        await say(message)
        allowed.append(machine.may_continue_body)

    assert allowed == [False, False, True, False]
    assert [len(data) > 0 for data in written] == [True, True]
    assert written[0].endswith(b"\r\n\r\n")
    assert written[1] == b"3\r\nend\r\n0\r\n\r\n"
