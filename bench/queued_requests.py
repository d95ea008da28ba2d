"""A client of many open requests with different keys, which notes when each answer begins, and checks every token."""

import selectors
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import attrs

from bench.servers import port_of
from llmactors.load.check import check
from llmactors.load.http_recording import HttpRecording
from llmactors.load.plan import Check, Plan
from llmactors.load.recording import Malformed
from llmactors.load.request_encoder import RequestEncoder
from llmactors.load.target import Target

BEGIN_S = 30.0
_READ_BYTES = 65_536


@attrs.frozen(eq=False)
class _Open:
    """One request, with what has come of its answer."""

    plan: Plan
    connection: socket.socket
    recording: HttpRecording


class QueuedRequests:
    """Requests that were sent, each on a connection of its own. All connections are closed at the end of the block."""

    def __init__(self, url: str) -> None:
        self._target = Target.parse(url)
        self._address = ("127.0.0.1", port_of(url))
        self._open: list[_Open] = []
        self._complete: set[int] = set()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._selector.close()
        for each in self._open:
            each.connection.close()

    def send(self, index: int, key: str, *, max_tokens: int) -> None:
        """Send the request `index`, with the key of a tenant."""
        plan = Plan(target=self._target, key=key, check=Check.MOCK, max_tokens=max_tokens)
        connection = socket.create_connection(self._address, timeout=BEGIN_S)
        opened = _Open(plan, connection, HttpRecording(index, time.perf_counter()))
        connection.sendall(RequestEncoder(plan).request(index))
        connection.setblocking(False)
        self._open.append(opened)
        self._selector.register(connection, selectors.EVENT_READ, opened)

    def wait_accepted(self, limit_s: float) -> None:
        """Wait until the server has accepted all requests: the head of each answer has come.

        Raises:
            RuntimeError: A request was refused, or the time is up.
        """
        self._read_until(lambda: all(each.recording.head is not None for each in self._open), limit_s)
        for each in self._open:
            head = each.recording.head
            if head is None or head.status != 200:
                raise RuntimeError(f"the server refused a request: {bytes(each.recording.data[:300])!r}")

    def wait_begun(self, count: int) -> None:
        """Wait until `count` answers have a token. Raises `RuntimeError` if the time is up."""
        self._read_until(lambda: sum(b"event: token" in each.recording.data for each in self._open) >= count, BEGIN_S)

    def read_all(self, limit_s: float) -> list[float]:
        """Read all answers to their ends, and return the time of the first token of each, in the order of sending.

        Raises:
            RuntimeError: A token was wrong, an answer was cut, or the time is up.
        """
        self._read_until(lambda: len(self._complete) == len(self._open), limit_s)
        try:
            return [check(each.plan, each.recording).times[0] for each in self._open]
        except Malformed as wrong:
            raise RuntimeError(f"an answer is wrong: {wrong.kind}: {wrong.detail}") from wrong

    def _read_until(self, is_over: Callable[[], bool], limit_s: float) -> None:
        deadline = time.perf_counter() + limit_s
        while not is_over():
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{len(self._complete)} of {len(self._open)} answers were complete in {limit_s:g} s")
            for key, _ in self._selector.select(0.1):
                self._read(key.data)

    def _read(self, opened: _Open) -> None:
        data = opened.connection.recv(_READ_BYTES)
        if not data or opened.recording.feed(data, time.perf_counter()):
            self._selector.unregister(opened.connection)
            self._complete.add(opened.recording.index)
