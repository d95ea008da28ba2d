"""One exchange between an application and a connection: which parts are written together, and errors of order."""

import contextlib
from collections.abc import Iterable
from typing import Any

import h11
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llmactors.http.http_stream import HttpStream
from llmactors.http.inbox import Application, ApplicationTasks

HEAD = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Machine:
    """A fake protocol machine that renders readable text and records each write."""

    may_continue_body = False

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.said: list[str] = []

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        return b"<%d>" % status

    def piece(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b"<end>"

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append(data)

    async def exchange_over(self) -> None:
        self.said.append("over")

    async def refuse(self, status: int, *, with_body: bool) -> None:
        self.said.append(f"refused {status}{' with a body' if with_body else ''}")


async def exchange(
    app: Application, *, method: str = "GET", gone: bool = False, machine: Machine | None = None
) -> Machine:
    """Runs `app` on a connection; returns the writes. With `gone` the client disconnects once all tasks wait."""
    machine = machine or Machine()
    stream = HttpStream(machine)
    request = h11.Request(method=method, target="/", headers=[("host", "x")])
    async with trio.open_nursery() as nursery:
        await stream.begin(app, ApplicationTasks(nursery), request, b"/x?y=1", {})
        if gone:
            await wait_all_tasks_blocked()
            await stream.client_gone()
    return machine


async def test_whole_answer_is_one_write() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (scope["path"], scope["query_string"]) == ("/x", b"y=1")
        await send(HEAD)
        await send(body(b"data", more=False))

    machine = await exchange(app)
    assert (machine.writes, machine.said) == ([b"<200>data<end>"], ["over", "over"])


async def test_head_is_written_with_the_first_body_event() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await send(body(b""))
        await send(body(b"one"))
        await send(body(b"two", more=False))

    assert (await exchange(app)).writes == [b"<200>", b"one", b"two<end>"]


async def test_answer_to_head_has_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await send(body(b"data", more=False))

    assert (await exchange(app, method="HEAD")).writes == [b"<200><end>"]


async def test_no_chunk_is_written_before_a_held_head() -> None:
    machine = Machine()
    stream = HttpStream(machine)
    await stream.send(HEAD)
    assert not machine.may_continue_body
    await stream.send(body(b""))
    assert machine.may_continue_body


async def test_nothing_is_written_after_the_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await send(body(b"data"))
        await send(body(b"", more=False))

    assert not (await exchange(app)).may_continue_body


async def test_invalid_head_is_answered_with_500() -> None:
    class Strict(Machine):
        def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
            raise h11.LocalProtocolError("no such header")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(h11.LocalProtocolError):
            await send(HEAD)

    assert (await exchange(app, machine=Strict())).said == ["refused 500 with a body", "over"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_application_without_an_answer_gets_500(method: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.lowlevel.checkpoint()

    refused = "refused 500" + " with a body" * (method == "GET")
    assert (await exchange(app, method=method)).said == [refused, "over"]


async def test_unfinished_answer_closes_the_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await send(body(b"half"))

    machine = await exchange(app)
    assert (machine.writes, machine.said) == ([b"<200>half"], ["over"])


async def test_send_out_of_turn_is_an_error_while_the_client_is_there() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(Exception, match="is out of turn"):
            await send(body(b"no head"))
        heard.append((await receive())["type"])
        await send(HEAD)
        await send({"type": "http.response.trailers"})

    machine = await exchange(app, gone=True)
    assert (heard, machine.writes, machine.said) == (["http.disconnect"], [], [])


async def test_application_that_answered_may_finish_after_disconnect() -> None:
    done = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with trio.CancelScope() as gone:
            receive.cancel_at_last(gone)
            await send(HEAD)
            await send(body(b"data", more=False))
            await receive.put({"type": "http.disconnect"})
            await trio.lowlevel.checkpoint()
            done.append(True)

    await exchange(app)
    assert done
