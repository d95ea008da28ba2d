"""Clients of WebSockets with several streams each, which judge by themselves what they hear.

Such a client never connects again: a message that is lost, repeated, out of order or not right is a complaint. Messages
come in pieces and in fragments, with pings between them. Some clients leave in the middle.
"""

import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, repeat
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio

from llmactors.backends.mock.oracle import sequence_hash, token_of
from tests.simulation.keepers.sockets import ClientEnd, Kernel

_WHOLE_S = 60.0
_LEAVES = 0.12
"""The share of the clients that leave in the middle."""
_MOST_TOKENS = 25
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_CONTINUED = 0
_HEAD = (
    b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@attrs.define(eq=False)
class SocketStream:
    """A stream that a client follows, and what it has heard of it."""

    prompt: str
    tokens: int
    after: int = 0
    is_asked: bool = True
    """Whether the client asked for the request, and does not only attach to its stream."""
    is_cancelled: bool = False
    """Whether the client cancels it."""
    is_safe: bool = True
    """Whether the answer comes to its end: its client neither cancels nor leaves."""
    id: str = ""
    accepted: trio.Event = attrs.field(factory=trio.Event)
    events: list[dict[str, Any]] = attrs.field(factory=list)
    was_running: bool | None = None
    """What the gateway said to the cancel."""

    def __repr__(self) -> str:
        return f"<SocketStream {self.prompt} after {self.after}, {len(self.events)} events>"

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1]["event"] != "token"

    def problem(self) -> str:
        """What is wrong with a stream that is over; empty for nothing."""
        *tokens, end = self.events
        base = sequence_hash(self.prompt, None)
        count = self.after + len(tokens)
        expected = [token_of(base, seq).text for seq in range(self.after + 1, count + 1)]
        if [event["seq"] for event in self.events] != [*range(self.after + 1, count + 2)]:
            return f"the seqs are {[event['seq'] for event in self.events]}"
        if [event["text"] for event in tokens] != expected:
            return f"the texts are {[event['text'] for event in tokens]}"
        cancelled = end.get("finish_reason") == "cancelled"
        if end["event"] != "done" or cancelled != (self.was_running or False):
            return f"the end is {end}, and the answer to the cancel {self.was_running}"
        return "" if cancelled or count == self.tokens else f"{count} of {self.tokens} tokens"


class _Conversation:
    """What one client says on its WebSocket, and hears."""

    def __init__(self, end: ClientEnd, rng: random.Random, name: str) -> None:
        self.streams: list[SocketStream] = []
        self.problems: list[str] = []
        self._end = end
        self._rng = rng
        self._name = name
        self._turn = trio.Lock()
        self._unanswered: list[tuple[str, SocketStream | None]] = []
        """The messages without a reply, in their order: what each refers to, and its stream."""
        self._pings: list[bytes] = []
        self._to_say = 0
        """How many messages are yet to be sent."""
        self._following: dict[str, SocketStream] = {}
        self._heard = bytearray()
        self._closes = False

    def __repr__(self) -> str:
        going = [each for each in self.streams if not each.has_ended]
        return f"<{self._name}: {going}, {len(self._unanswered)} replies and {len(self._pings)} pongs to come>"

    # What it says.

    async def open(self) -> None:
        """Makes the handshake."""
        await self._send(_HEAD)
        while b"\r\n\r\n" not in self._heard:
            await self._receive()
        head, _, rest = self._heard.partition(b"\r\n\r\n")
        self._heard = bytearray(rest)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"the answer to the handshake is {bytes(head)!r}")

    async def talk(self, others: Sequence[SocketStream], *, leaves: bool) -> None:
        """Asks for some streams at once, and listens until all that was asked is answered."""
        rng = self._rng
        async with trio.open_nursery() as nursery:
            for _ in range(rng.choice((1, 2, 3, 5))):
                what = rng.random()
                if what < 0.12:
                    await self._say(None, op="mistake")
                elif what < 0.3 and others:
                    of = rng.choice(others)
                    if of.prompt not in {stream.prompt for stream in self.streams}:
                        after = rng.randint(0, of.tokens)
                        stream = SocketStream(of.prompt, of.tokens, after, is_asked=False, is_safe=False)
                        await self._begin(stream, op="attach", id=of.id, after=stream.after)
                else:
                    stream = SocketStream(f"{self._name}/{len(self.streams)}", rng.randint(1, _MOST_TOKENS))
                    stream.is_cancelled = rng.random() < 0.2
                    stream.is_safe = not leaves and not stream.is_cancelled
                    await self._begin(stream, op="generate", prompt=stream.prompt, max_tokens=stream.tokens)
                    if stream.is_cancelled:
                        self._to_say += 1
                        nursery.start_soon(self._cancel, stream)
            await self._listen()

    async def close(self) -> None:
        """Closes the WebSocket in order."""
        self._closes = True
        await self._send(self._frame(_CLOSE, struct.pack(">H", 1000)))
        while True:
            for opcode, _ in self._frames():
                if opcode == _CLOSE:
                    if await self._end.receive():
                        self.problems.append(f"{self._name}: bytes behind the close frame")
                    return
            await self._receive()

    async def _begin(self, stream: SocketStream, **fields: object) -> None:
        self.streams.append(stream)
        await self._say(stream, **fields)

    async def _cancel(self, stream: SocketStream) -> None:
        await stream.accepted.wait()
        await trio.sleep(self._rng.uniform(0.0, 0.6))
        self._to_say -= 1
        await self._say(stream, op="cancel", id=stream.id)

    async def _say(self, stream: SocketStream | None, **fields: object) -> None:
        rng = self._rng
        text = json.dumps({**fields, "ref": f"{fields['op']} {rng.getrandbits(32):x}"}).encode()
        ends = sorted({*(rng.randrange(len(text)) for _ in range(rng.choice((0, 0, 1, 3)))), len(text)})
        frames, at = b"", 0
        async with self._turn:
            for to, opcode in zip(ends, chain((_TEXT,), repeat(_CONTINUED)), strict=False):
                frames += self._frame(opcode, text[at:to], is_last=to == len(text))
                at = to
                if rng.random() < 0.15:
                    self._pings.append(rng.randbytes(rng.randint(1, 20)))
                    frames += self._frame(_PING, self._pings[-1])
            self._unanswered.append((json.loads(text)["ref"], stream))
            await self._send(frames)

    def _frame(self, opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
        assert len(payload) < 1 << 16
        mask = self._rng.randbytes(4)
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack(">BH", 0x80 | 126, len(payload))
        masked = bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
        return bytes([is_last << 7 | opcode]) + size + mask + masked

    async def _send(self, data: bytes) -> None:
        size = self._rng.choice((len(data), 400, 90, 11))
        for at in range(0, len(data), size):
            await self._end.send(data[at : at + size])
            if self._rng.random() < 0.3:
                await trio.sleep(self._rng.uniform(0.0, 0.05))

    # What it hears.

    async def _listen(self) -> None:
        while True:
            for opcode, payload in self._frames():
                if opcode == _TEXT:
                    self._take(json.loads(payload))
                elif opcode == _PONG and [payload] == self._pings[:1]:
                    del self._pings[0]
                elif opcode == _PING:
                    await self._end.send(self._frame(_PONG, payload))
                else:
                    raise ConnectionError(f"a frame that nobody asked for: {opcode} {payload!r}")
            is_quiet = not (self._unanswered or self._pings or self._to_say)
            if is_quiet and all(stream.has_ended for stream in self._following.values()):
                return
            await self._receive()

    def _take(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if "ref" in event:
            (ref, stream), *self._unanswered = self._unanswered or [("nothing", None)]
            if ref != event["ref"]:
                self.problems.append(f"{self._name}: the reply to {ref} is {event}")
            elif ref.startswith("cancel") and stream is not None:
                stream.was_running = event["cancelled"]
            elif stream is None or name != "accepted":
                if stream is not None or name != "error":
                    self.problems.append(f"{self._name}: the reply to {ref} is {event}")
            else:
                stream.id = event["id"]
                self._following[stream.id] = stream
                stream.accepted.set()
        elif name != "queued":
            if (following := self._following.get(event["id"])) is None or following.has_ended:
                self.problems.append(f"{self._name}: an event of no stream, or behind its end: {event}")
            else:
                following.events.append(event)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """The frames that have come."""
        while len(self._heard) >= 2:
            size, start = self._heard[1], 2
            if size == 126:
                size, start = int.from_bytes(self._heard[2:4]), 4
            if size == 127 or not self._heard[0] & 0x80:
                raise ConnectionError(f"a frame of a kind that no gateway sends: {bytes(self._heard[:20])!r}")
            if len(self._heard) < start + size:
                return
            opcode, payload = self._heard[0] & 0x7F, bytes(self._heard[start : start + size])
            del self._heard[: start + size]
            yield opcode, payload

    async def _receive(self) -> None:
        data = await self._end.receive()
        if not data:
            raise ConnectionResetError("the connection ended")
        self._heard += data


class SocketLoad:
    """Such clients, from `run` until `stop`."""

    def __init__(self, kernel: Kernel, urls: Callable[[], Sequence[str]], clients: int, seed: int) -> None:
        self.problems: list[str] = []
        self._conversations: list[_Conversation] = []
        self._kernel = kernel
        self._urls = urls
        self._clients = clients
        self._seed = seed
        self._stopping = False

    def __repr__(self) -> str:
        return f"<SocketLoad {len(self.streams)} streams>"

    @property
    def streams(self) -> list[SocketStream]:
        """All streams of all clients."""
        return [stream for each in self._conversations for stream in each.streams]

    async def run(self) -> None:
        """Runs the clients until `stop`, and then until all has come."""
        async with trio.open_nursery() as nursery:
            for number in range(self._clients):
                rng = random.Random(f"client {number} of WebSockets of {self._seed}")
                nursery.start_soon(self._client, f"socket {self._seed}/{number}", rng)

    def stop(self) -> None:
        """Stops new streams."""
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
            count += 1
            self._conversations.append(_Conversation(end, rng, f"{name}/{count}"))
            await self._use(self._conversations[-1], rng)
            end.close()

    async def _use(self, conversation: _Conversation, rng: random.Random) -> None:
        leaves = rng.random() < _LEAVES
        leaves_s = rng.uniform(0.0, 1.5) if leaves else _WHOLE_S
        with trio.move_on_after(leaves_s) as limit:
            try:
                await conversation.open()
                for _ in range(rng.randint(1, 3)):
                    others = [each for each in self.streams if each.is_safe and each.id]
                    await conversation.talk(others[-6:], leaves=leaves)
                    await trio.sleep(rng.uniform(0.0, 0.4))
                if rng.random() < 0.5:
                    await conversation.close()
            except* (OSError, ValueError, LookupError) as group:
                self.problems.append(f"{conversation} was cut: {group.exceptions[0]!r}")
        if limit.cancelled_caught and not leaves:
            self.problems.append(f"no end within {_WHOLE_S} s: {conversation}")
        over = [each for each in conversation.streams if each.has_ended]
        self.problems += conversation.problems
        self.problems += [
            f"{each}: {found}" for each in over if not limit.cancelled_caught and (found := each.problem())
        ]
