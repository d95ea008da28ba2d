"""An upstream for proxies: OpenAI's chat and completions routes over the simulated model, as cheap as Python can be.

Each token goes out in a write of its own, as engines write: one HTTP chunk with one server-sent event. With a `step_ms`
every stream has steps of its own, at a random place within the step of the others, so that tokens of different streams
come scattered. Without a `step_ms`, each pass of the loop writes one token of each stream.

A chat whose last message is the assistant's goes on behind the tokens of that message, whatever system messages came
before it: proxies that lost an upstream in the middle of an answer ask for the rest in this way. `GET /made` says how
many tokens were made so far.

Only the standard library is imported. Nothing is bounded, and only what the benchmark and its proxies send is
understood.
"""

import heapq
import json
import random
import select
import socket
import time
from typing import Any

from bench.peers.work import Job, arguments, token_text

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_HEALTHY = b'{"object":"list","data":[{"id":"mock","object":"model","created":1,"owned_by":"bench"}]}'
_READ_BYTES = 65_536


def _event(data: str) -> bytes:
    event = f"data: {data}\n\n"
    return f"{len(event):x}\r\n{event}\r\n".encode()


def _whole(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Answer:
    """The chunks of one streamed answer, which ends by itself after `length` tokens; 0: only `max_tokens` ends it."""

    def __init__(self, body: dict[str, object], *, is_chat: bool, length: int) -> None:
        self._is_chat = is_chat
        prompt, begun = _conversation(body["messages"]) if is_chat else (body.get("prompt"), "")
        self._job = Job.read({**body, "prompt": prompt})
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        self._begin = f'{{"id":"chatcmpl-bench","object":"{kind}","created":1700000000,"model":"mock","choices":'
        self._seq = self._begun = begun.count(" ")  # each token begins with a space, and has no other
        self._end_seq = self._begun + self._job.max_tokens
        self._ends_itself = 0 < length < self._end_seq
        if self._ends_itself:
            self._end_seq = max(length, self._begun + 1)

    def first(self) -> bytes:
        """The head, and the chunk before the first token."""
        role = '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return _HEAD + _event(f"{self._begin}[{role}]}}") if self._is_chat else _HEAD

    def next(self) -> tuple[bytes, bool]:
        """The next token, and whether more tokens follow. The last token has the end of the answer behind it."""
        self._seq += 1
        text, last = token_text(self._job.base, self._seq), self._seq >= self._end_seq
        said = f'"delta":{{"content":"{text}"}}' if self._is_chat else f'"text":"{text}"'
        reason = ('"stop"' if self._ends_itself else '"length"') if last else "null"
        event = _event(f'{self._begin}[{{"index":0,{said},"logprobs":null,"finish_reason":{reason}}}]}}')
        return (event + self._end(), False) if last else (event, True)

    def _end(self) -> bytes:
        made = self._seq - self._begun
        counts = f'"prompt_tokens":1,"total_tokens":{made + 1},"completion_tokens":{made}'
        return _event(f'{self._begin}[],"usage":{{{counts}}}}}') + _event("[DONE]") + b"0\r\n\r\n"


def _conversation(messages: Any) -> tuple[str, str]:
    """The prompt of a conversation, and the beginning of the answer where a message of the assistant is the last one.

    The simulated model has no chat template, and reads a conversation as the roles and texts of its messages.
    """
    said = [message for message in messages if message["role"] != "system"]
    begun = said.pop()["content"] if said[-1]["role"] == "assistant" else ""
    return "\n".join(f"{message['role']}: {message['content']}" for message in said), begun


class Upstream:
    """The server: one thread, which reads requests and writes tokens."""

    def __init__(self, host: str, port: int, step_s: float, length: int) -> None:
        self._step_s = step_s
        self._length = length
        self._made = 0
        self._listener = socket.create_server((host, port), backlog=1024)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._held: dict[int, bytes] = {}
        self._answers: dict[int, _Answer] = {}
        self._closing: set[int] = set()
        """The connections whose client asked for their end behind the answer."""
        self._due: list[tuple[float, int, _Answer]] = []
        """The times of the next tokens, with the file descriptors of the connections. A heap."""
        self._rng = random.Random(1)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            wait_s = -1.0 if not self._due else max(0.0, self._due[0][0] - time.monotonic())
            for descriptor, _ in self._poll.poll(wait_s):
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._read(descriptor)
            self._write_due(time.monotonic())

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, descriptor: int) -> None:
        try:
            data = self._sockets[descriptor].recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._close(descriptor)
            return
        held = self._held.pop(descriptor, b"") + data
        head, found, body = held.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if not found or len(body) < int(fields.get(b"content-length", b"0")):
            self._held[descriptor] = held
        else:
            self._begin(descriptor, head, body)

    def _begin(self, descriptor: int, head: bytes, body: bytes) -> None:
        if b"connection: close" in head.lower():
            self._closing.add(descriptor)
        if not head.startswith(b"POST"):
            self._send(descriptor, _whole(str(self._made).encode() if head.startswith(b"GET /made") else _HEALTHY))
            self._end(descriptor)
            return
        asked = json.loads(body)
        answer = _Answer(asked, is_chat=b"/chat/" in head.split(b" ", 2)[1], length=self._length)
        self._answers[descriptor] = answer
        self._send(descriptor, answer.first())
        begins = time.monotonic() + (self._step_s * (1 + self._rng.random()) if self._step_s else 0.0)
        heapq.heappush(self._due, (begins, descriptor, answer))

    def _write_due(self, now: float) -> None:
        due = self._due
        while due and due[0][0] <= now:
            at, descriptor, answer = due[0]
            if self._answers.get(descriptor) is not answer:  # its client has gone
                heapq.heappop(due)
                continue
            data, more = answer.next()
            self._made += 1
            self._send(descriptor, data)
            if more:
                heapq.heapreplace(due, (at + self._step_s if self._step_s else time.monotonic(), descriptor, answer))
            else:
                heapq.heappop(due)
                self._answers.pop(descriptor, None)
                self._end(descriptor)

    def _send(self, descriptor: int, data: bytes) -> None:
        try:
            sent = self._sockets[descriptor].send(data)
            if sent < len(data):
                raise BlockingIOError("a proxy reads more slowly than this upstream can bear")
        except OSError:
            self._close(descriptor)

    def _end(self, descriptor: int) -> None:
        if descriptor in self._closing:
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        self._answers.pop(descriptor, None)
        self._held.pop(descriptor, None)
        self._closing.discard(descriptor)
        sock = self._sockets.pop(descriptor, None)
        if sock is not None:
            self._poll.unregister(descriptor)
            sock.close()


def main() -> None:
    given = arguments("An upstream for proxies.")
    Upstream(given.host, given.port, given.model.step_s, given.length).run()


if __name__ == "__main__":
    main()
