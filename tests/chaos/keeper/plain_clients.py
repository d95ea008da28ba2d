"""Clients that are a socket, a process of curl, or a WebSocket."""

import json
import random
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable

import attrs
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, connect_websocket_url

from tests.chaos.keeper.loaders import Plan
from tests.chaos.keeper.records import PATIENCE_S, Answer, Refusal, fault_of_error
from tests.chaos.keeper.shapes import Oracle, Shape

STREAMS = ["native stream", "chat stream", "completions stream", "responses stream", "messages stream"]
WHOLE = ["native JSON", "chat JSON", "responses JSON", "messages JSON"]
ALL = [*STREAMS, *WHOLE]
SHAPES = {
    "socket": ALL,
    "socket, slow": ["large JSON", "logprobs stream"],
    "socket, in pieces": ALL,
    "socket, pipelined": ALL,
    "socket, new for each": ALL,
    "socket, idle between": ALL,
    "curl": ALL,
    "websocket": ["native stream"],
}
SLOW_BUFFER = 2304
"""The receive buffer of a client that reads slowly. The kernel takes no smaller one."""
SLOW_S = 0.02
"""The pause of such a client between two reads."""
CURL_REFUSED = 7
AT_ONCE = 3
"""The streams of a WebSocket that run at the same time."""


@attrs.define
class Connection:
    """A connection of HTTP/1.1, on which one answer is read after the other."""

    stream: trio.SocketStream
    is_slow: bool = False
    _unread: bytes = b""

    async def answer(self, heard: list[float]) -> bytes:
        """The body of the next answer. Raises `EOFError` if the connection ends before, and `Refusal`."""
        while b"\r\n\r\n" not in self._unread:
            await self._more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = [line.partition(": ") for line in lines]
        names = [name.lower() for name, _, _ in fields]
        if len(set(names)) < len(names):
            raise ValueError(f"a field of the head comes twice: {head!r}")
        length = next((int(value) for name, _, value in fields if name.lower() == "content-length"), None)
        heard.append(time.monotonic())
        body = await (self._chunks(heard) if length is None else self._exactly(length))
        if not status.startswith("HTTP/1.1 200 "):
            raise Refusal(f"{status}: {body[:300]!r}")
        return body

    async def _chunks(self, heard: list[float]) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._unread:
                await self._more()
            size, _, self._unread = self._unread.partition(b"\r\n")
            chunk = await self._exactly(int(size, 16) + 2)
            if not chunk.endswith(b"\r\n"):
                raise ValueError(f"a chunk of {size!r} bytes does not end: {chunk[-100:]!r}")
            if size == b"0":
                return body
            heard.append(time.monotonic())
            body += chunk[:-2]

    async def _exactly(self, count: int) -> bytes:
        while len(self._unread) < count:
            await self._more()
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    async def _more(self) -> None:
        with trio.fail_after(PATIENCE_S):
            if self.is_slow:
                await trio.sleep(SLOW_S)
            data = await self.stream.receive_some(2048 if self.is_slow else 65536)
        if not data:
            raise EOFError(f"the connection ended, and {len(self._unread)} bytes of an answer wait for more")
        self._unread += data


async def _connect(plan: Plan, kind: str) -> Connection:
    is_slow = kind == "socket, slow"
    raw = trio.socket.socket()
    if is_slow:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    await raw.connect(plan.address)
    return Connection(trio.SocketStream(raw), is_slow)


async def _send(connection: Connection, kind: str, request: bytes, rng: random.Random) -> None:
    if kind != "socket, in pieces":
        await connection.stream.send_all(request)
        return
    places = sorted(rng.sample(range(1, len(request)), 4))
    for begin, end in zip([0, *places], [*places, len(request)], strict=True):
        await connection.stream.send_all(request[begin:end])
        await trio.sleep(rng.uniform(0.0, 0.6))


async def _socket_client(plan: Plan, oracle: Oracle, kind: str, number: int) -> None:
    rng = random.Random(f"{kind} {number}")
    connection: Connection | None = None
    waiting: list[tuple[Shape, str, Answer]] = []
    at_once = 2 if kind == "socket, pipelined" else 1
    for asked in plan.turns(kind, number, SHAPES[kind]):
        waiting.append(asked)
        if len(waiting) < at_once:
            continue
        try:
            if connection is None:
                connection = await _connect(plan, kind)
            requests = b"".join(shape.request(prompt) for shape, prompt, _ in waiting)
            await _send(connection, kind, requests, rng)
            for shape, prompt, answer in waiting:
                body = await connection.answer(answer.heard)
                answer.fault = oracle.fault_of_body(shape, prompt, body)
        except (OSError, EOFError, ValueError, Refusal, trio.BrokenResourceError, trio.TooSlowError) as error:
            for _, _, answer in waiting:
                answer.fault = answer.fault or fault_of_error(error)
        is_right = not any(answer.fault for _, _, answer in waiting)
        for _, _, answer in waiting:
            answer.tell()
        waiting.clear()
        if connection and (not is_right or kind == "socket, new for each"):
            await connection.stream.aclose()
            connection = None
        await trio.sleep(rng.uniform(0.5, 4.0) if kind == "socket, idle between" else 0.0 if is_right else 0.5)
    if connection is not None:
        await connection.stream.aclose()


async def _curl(plan: Plan, oracle: Oracle, kind: str, number: int) -> None:
    for shape, prompt, answer in plan.turns(kind, number, SHAPES[kind]):
        command = ["curl", "-sS", "--no-buffer", "-o", "-", "-w", "%{stderr}%{http_code}"]
        command += ["-H", "content-type: application/json", "-d", shape.body(prompt).decode(), plan.url + shape.path]
        body, said = b"", b""
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout
        assert process.stderr
        async for data in process.stdout:
            answer.heard.append(time.monotonic())
            body += data
        async for data in process.stderr:
            said += data
        await process.wait()
        if process.returncode:
            kind_of_fault = "refused" if process.returncode == CURL_REFUSED else "cut"
            answer.fault = f"{kind_of_fault}: curl ended with {process.returncode}: {said!r}"
        elif said != b"200":
            answer.fault = f"refusal: {said!r} {body[:300]!r}"
        else:
            answer.fault = oracle.fault_of_body(shape, prompt, body)
        answer.tell()
        if answer.fault:
            await trio.sleep(0.5)


async def _websocket(plan: Plan, oracle: Oracle, kind: str, number: int) -> None:
    turns = plan.turns(kind, number, SHAPES[kind])
    rng = random.Random(f"{kind} {number}")
    while not plan.ends.is_set():
        async with trio.open_nursery() as nursery:
            try:
                connected = await connect_websocket_url(nursery, f"ws://{plan.url.removeprefix('http://')}/v1/ws")
            except (OSError, HandshakeError) as error:
                answer = Answer(kind, "native stream", fault=f"refused: {error!r}")
                answer.tell()
                await trio.sleep(0.5)
                continue
            is_right = True
            while is_right:
                asked = [found for _ in range(AT_ONCE) if (found := next(turns, None))]
                if not asked:
                    break
                bodies: dict[str, str] = {}
                try:
                    with trio.fail_after(PATIENCE_S):
                        refs = await _ask_websocket(connected, asked, bodies, rng)
                    for ref, (shape, prompt, answer) in enumerate(asked):
                        answer.fault = oracle.fault_of_body(shape, prompt, bodies[refs[ref]])
                except (ConnectionClosed, trio.TooSlowError, ValueError, KeyError, Refusal) as error:
                    for _, _, answer in asked:
                        answer.fault = fault_of_error(error)
                for _, _, answer in asked:
                    is_right = is_right and not answer.fault
                    answer.tell()
            nursery.cancel_scope.cancel(reason="the WebSocket is not needed any more")


async def _ask_websocket(
    connected: WebSocketConnection,
    asked: list[tuple[Shape, str, Answer]],
    bodies: dict[str, str],
    rng: random.Random,
) -> dict[int, str]:
    """Asks all at once, and gathers the events of each id as an SSE stream would have them. Returns the ids."""
    refs: dict[int, str] = {}
    answers: dict[str, Answer] = {}
    for ref, (shape, prompt, _) in enumerate(asked):
        fields = {"op": "generate", "ref": ref, "prompt": prompt, "max_tokens": shape.fields["max_tokens"]}
        await connected.send_message(json.dumps(fields))
        await trio.sleep(rng.uniform(0.0, 0.3))
    ended = 0
    while ended < len(asked):
        message = await connected.get_message()
        found = json.loads(message)
        event = found.pop("event")
        if event == "accepted":
            refs[found["ref"]] = found["id"]
            answers[found["id"]] = asked[found["ref"]][2]
            bodies[found["id"]] = "retry: 1000\n\n"
        elif event == "error":
            raise Refusal(message)
        elif event != "queued":
            answers[found["id"]].heard.append(time.monotonic())
            data = json.dumps(found, separators=(",", ":"))
            bodies[found["id"]] += f"id: {found['seq']}\nevent: {event}\ndata: {data}\n\n"
            ended += event == "done"
    return refs


RUNNERS: dict[str, Callable[[Plan, Oracle, str, int], Awaitable[None]]] = {"curl": _curl, "websocket": _websocket}


def run(plan: Plan) -> None:
    """Runs the clients of a plan until its end."""

    async def run_all() -> None:
        oracle = plan.oracle
        async with trio.open_nursery() as nursery:
            for kind, number in plan.every_client():
                nursery.start_soon(RUNNERS.get(kind, _socket_client), plan, oracle, kind, number)
                await trio.sleep(0.01)

    trio.run(run_all)
