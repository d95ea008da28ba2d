"""Clients that send requests on one connection, in pieces and in pipelines, and judge the answers by themselves.

Such a client never connects again for the same request: an answer that is cut, repeated or not right is a complaint.
Some clients leave in the middle.
"""

import json
import random
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import attrs
import h11
import msgspec
import trio

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.http.sse_reader import SseReader
from tests.simulation.keepers.sockets import ClientEnd, Kernel

_WHOLE_S = 60.0
_LEAVES = 0.12
"""The share of the batches in whose middle a client leaves."""


@attrs.define(eq=False)
class Call:
    """One request, and what came of it."""

    kind: str
    prompt: str
    tokens: int
    status: int = 0
    request_id: str = ""
    body: bytes = b""
    is_over: bool = False

    def __repr__(self) -> str:
        return f"<Call {self.kind} {self.prompt} {self.request_id} {len(self.body)} bytes>"

    @property
    def is_admitted(self) -> bool:
        """Whether the call becomes a request of the ledger."""
        return self.kind not in {"models", "unknown model"}

    def request(self, rng: random.Random) -> bytes:
        """The bytes to send."""
        if self.kind == "models":
            return b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
        model = "none" if self.kind == "unknown model" else "mock"
        fields = {"prompt": self.prompt, "model": model, "max_tokens": self.tokens, "stream": self.kind == "stream"}
        body = json.dumps(fields).encode()
        head = b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        if rng.random() < 0.2:
            parts = [body[at : at + 30] for at in range(0, len(body), 30)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            expects = b"expect: 100-continue\r\n" if rng.random() < 0.5 else b""
            return head + expects + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        return head + b"content-length: %d\r\n\r\n" % len(body) + body

    def problem(self) -> str:
        """What is wrong with the answer; empty for nothing."""
        if self.status != (404 if self.kind == "unknown model" else 200):
            return f"status {self.status}: {self.body[:200]!r}"
        try:
            return {"stream": self._problem_of_stream, "whole": self._problem_of_text}.get(self.kind, self._parsed)()
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
            return f"nobody can read the answer {self.body[-200:]!r}: {error!r}"

    def _expected(self) -> list[str]:
        base = sequence_hash(self.prompt, None)
        return [token_of(base, seq).text for seq in range(1, self.tokens + 1)]

    def _problem_of_stream(self) -> str:
        events = [
            msgspec.json.decode(found.data) for found in SseReader().feed(self.body) if found.name not in {"queued", ""}
        ]
        if any(event["id"] != self.request_id for event in events):
            return f"events of other requests: {[event['id'] for event in events]} in {self.request_id}"
        seqs, texts = [event["seq"] for event in events], [event["text"] for event in events[:-1]]
        if seqs != [*range(1, self.tokens + 2)] or texts != self._expected():
            return f"the seqs are {seqs}, and the texts {texts}"
        return ""

    def _problem_of_text(self) -> str:
        answer = msgspec.json.decode(self.body)
        return "" if answer["text"] == "".join(self._expected()) else f"the answer is {answer}"

    def _parsed(self) -> str:
        return "" if msgspec.json.decode(self.body) else "the answer is empty"


class PlainLoad:
    """Such clients, from `run` until `stop`."""

    def __init__(self, kernel: Kernel, urls: Callable[[], Sequence[str]], clients: int, seed: int) -> None:
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self._kernel = kernel
        self._urls = urls
        self._clients = clients
        self._seed = seed
        self._stopping = False

    def __repr__(self) -> str:
        return f"<PlainLoad {len(self.calls)} calls>"

    async def run(self) -> None:
        """Runs the clients until `stop`, and then until all answers have come."""
        async with trio.open_nursery() as nursery:
            for number in range(self._clients):
                rng = random.Random(f"plain client {number} of {self._seed}")
                nursery.start_soon(self._client, f"plain {self._seed}/{number}", rng)

    def stop(self) -> None:
        """Stops new calls."""
        self._stopping = True

    async def _client(self, name: str, rng: random.Random) -> None:
        count = 0
        while not self._stopping:
            await trio.sleep(rng.uniform(0.0, 0.2))
            port = urlsplit(rng.choice(self._urls())).port
            assert port
            try:
                end = await self._kernel.connect("127.0.0.1", port)
            except OSError as error:
                self.problems.append(f"a client was refused: {error!r}")
                return
            stays = True
            for _ in range(rng.randint(1, 3)):
                calls = []
                for _ in range(rng.choice((1, 1, 2, 4))):
                    count += 1
                    kind = rng.choice(("stream", "stream", "whole", "models", "unknown model"))
                    calls.append(Call(kind, f"{name}/{count}", rng.randint(1, 25)))
                self.calls += calls
                if stays := await self._ask(end, calls, rng):
                    await trio.sleep(rng.uniform(0.0, 0.4))
                else:
                    break
            if stays and rng.random() < 0.3:
                await self._half_close(end, rng)
            end.close()

    async def _ask(self, end: ClientEnd, calls: Sequence[Call], rng: random.Random) -> bool:
        """Sends a pipeline of requests, and reads the answers. Returns False where the client leaves."""
        sent = b"".join(call.request(rng) for call in calls)
        leaves_s = rng.uniform(0.0, 1.5) if rng.random() < _LEAVES else _WHOLE_S
        is_cut = False
        with trio.move_on_after(leaves_s) as limit:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, end, sent, rng)
                    await self._read(end, calls)
            except* (OSError, h11.RemoteProtocolError) as group:
                going = next((call for call in calls if not call.is_over), None)
                self.problems.append(f"{going} was cut: {group.exceptions[0]!r}")
                is_cut = True
        if limit.cancelled_caught:
            if leaves_s == _WHOLE_S:
                self.problems.append(f"no end within {_WHOLE_S} s: {[call for call in calls if not call.is_over]}")
            return False
        if not is_cut:
            self.problems += [f"{call}: {found}" for call in calls if (found := call.problem())]
        return not is_cut

    async def _send(self, end: ClientEnd, data: bytes, rng: random.Random) -> None:
        size = rng.choice((len(data), 400, 90, 30))
        for at in range(0, len(data), size):
            await end.send(data[at : at + size])
            if rng.random() < 0.5:
                await trio.sleep(rng.uniform(0.0, 0.05))

    async def _read(self, end: ClientEnd, calls: Sequence[Call]) -> None:
        machine = h11.Connection(h11.CLIENT)
        for call in calls:
            machine.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
            machine.send(h11.EndOfMessage())
            while not isinstance(event := machine.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await end.receive()
                    if not data:
                        raise ConnectionResetError(f"the connection ended behind {call.body[-200:]!r}")
                    machine.receive_data(data)
                elif isinstance(event, h11.Response):
                    call.status = event.status_code
                    call.request_id = dict(event.headers.raw_items()).get(b"x-request-id", b"").decode()
                elif isinstance(event, h11.Data):
                    call.body += bytes(event.data)
            call.is_over = True
            machine.start_next_cycle()

    async def _half_close(self, end: ClientEnd, rng: random.Random) -> None:
        """Ends the client's side behind a request, as `nc -N` does."""
        call = Call("models", "", 0)
        await end.send(call.request(rng))
        end.tcp.client_sends(b"")
        try:
            with trio.fail_after(_WHOLE_S):
                await self._read(end, [call])
                if await end.receive():
                    self.problems.append("bytes behind the last answer")
        except (OSError, h11.RemoteProtocolError, trio.TooSlowError) as error:
            self.problems.append(f"the answer to a client that sends no more: {error!r}")
            return
        if found := call.problem():
            self.problems.append(f"{call}: {found}")
