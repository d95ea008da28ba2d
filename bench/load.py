"""A load client: many SSE streams at once, from one thread and one epoll, each checked token by token.

It shares nothing with what it measures: plain sockets, no event loop, no HTTP library. While it is timed it only stores
what arrived and when; answers are parsed and compared with the mock's oracle afterwards. It speaks to loopback alone.

    python -m bench.load http://127.0.0.1:8000 --clients 60 --requests 600 --max-tokens 64

prints a table on stderr and one JSON object on stdout. Times are in seconds.
"""

import argparse
import errno
import gc
import ipaddress
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgspec

from bench.answers import Answer, Plan, Tally, percentiles

MAX_CLIENTS = 10_000
MAX_REQUESTS = 1_000_000
HOLD_BYTES = 64 << 20
"""Unchecked answers above this are checked while the clock runs; the result says how many."""
TICK_S = 0.25


@attrs.define(eq=False)
class Client:
    """One of the closed loop's clients: at most one connection and one request."""

    sock: socket.socket | None = None
    unsent: bytes = b""
    answer: Answer | None = None


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.tally = Tally()
        self.checked_early = 0
        self.seconds = 0.0
        self._plan = plan
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._complete: list[Answer] = []
        self._held_bytes = 0
        self._next = 0

    def run(self) -> None:
        """Sends and receives everything. Takes at most `limit_s`, and the time of one tick."""
        begun = time.perf_counter()
        idle = [Client() for _ in range(min(self._plan.clients, self._plan.requests))]
        for each in idle:
            self._begin(each)
        next_tick = begun + TICK_S
        while self._clients:
            for fd, mask in self._epoll.poll(TICK_S):
                client = self._clients.get(fd)
                if client is not None:
                    self._ready(client, mask)
            now = time.perf_counter()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._tick(now, now - begun >= self._plan.limit_s)
        self.seconds = time.perf_counter() - begun
        self._epoll.close()

    def check(self) -> None:
        """Checks what was held back."""
        for answer in self._complete:
            self.tally.add(self._plan, answer)
        self._complete.clear()
        self._held_bytes = 0

    def _begin(self, client: Client) -> None:
        """The client's next request, if there is one left; else the client is done."""
        if self._next >= self._plan.requests:
            self._drop(client)
            return
        index = self._next
        self._next += 1
        request = self._plan.request(index)
        client.answer = Answer(index, time.perf_counter())
        client.unsent = request
        if client.sock is None:
            self._connect(client)
        else:
            self._send(client)

    def _connect(self, client: Client) -> None:
        family = socket.AF_INET6 if ":" in self._plan.host else socket.AF_INET
        sock = client.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex((self._plan.host, self._plan.port))
        self._clients[sock.fileno()] = client
        # Whatever went wrong is told by the send.
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLOUT)
        if code not in {0, errno.EINPROGRESS}:
            self._failed(client, errno.errorcode.get(code, "connect"), os.strerror(code))

    def _ready(self, client: Client, mask: int) -> None:
        if client.unsent:
            if mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                self._send(client)
            return
        assert client.sock is not None
        try:
            data = client.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(client, _name(error), str(error))
            return
        now = time.perf_counter()
        answer = client.answer
        assert answer is not None
        if not data:
            self._failed(client, "closed_early", f"after {len(answer.data)} bytes")
        elif answer.feed(data, now):
            self._done(client, answer)
        elif len(answer.data) > 65_536 + 2048 * self._plan.max_tokens:
            self._failed(client, "too_long", f"{len(answer.data)} bytes")

    def _send(self, client: Client) -> None:
        assert client.sock is not None
        try:
            sent = client.sock.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._failed(client, _name(error), str(error))
            return
        client.unsent = client.unsent[sent:]
        self._epoll.modify(client.sock, select.EPOLLIN | (select.EPOLLOUT if client.unsent else 0))

    def _done(self, client: Client, answer: Answer) -> None:
        if answer.closing or not self._plan.keep_alive:
            self._drop(client)
        self._complete.append(answer)
        self._held_bytes += len(answer.data)
        self._begin(client)
        if self._held_bytes > HOLD_BYTES:
            self.checked_early += len(self._complete)
            self.check()

    def _failed(self, client: Client, kind: str, detail: str) -> None:
        assert client.answer is not None
        self.tally.fail(kind, f"request {client.answer.index}: {detail}")
        self._drop(client)
        if self._next < self._plan.requests:
            self._begin(client)

    def _drop(self, client: Client) -> None:
        client.answer = None
        client.unsent = b""
        if client.sock is not None:
            del self._clients[client.sock.fileno()]
            client.sock.close()
            client.sock = None

    def _tick(self, now: float, over: bool) -> None:
        if over:
            self._next = self._plan.requests
        for client in list(self._clients.values()):
            answer = client.answer
            if answer is None:
                continue
            if over:
                self._failed(client, "broken_off", "the run took too long")
            elif now - (answer.ended if answer.read_times else answer.begun) > self._plan.stall_s:
                self._failed(client, "stalled", f"nothing for {self._plan.stall_s:g} s")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "OSError").lower()


@attrs.frozen
class ProcessTimes:
    """How a process has spent its life so far, in seconds."""

    cpu: float
    """User and system time of all its threads; the kernel counts it in steps of 10 ms."""
    waited: float
    """How long its main thread was ready to run, and something else had the core."""

    @classmethod
    def of(cls, pid: int) -> "ProcessTimes":
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        schedstat = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
        return cls((int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"), int(schedstat[1]) / 1e9)


def resident_bytes(pid: int) -> int:
    """How much memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(plan: Plan, *, warmup: int, server_pid: int | None) -> dict[str, Any]:
    """Warms up, runs the plan, checks everything, and says what was found."""
    if warmup:
        small = attrs.evolve(plan, requests=warmup, clients=min(plan.clients, warmup), label="warm-up")
        Load(attrs.evolve(small, max_tokens=min(plan.max_tokens, 16), limit_s=min(plan.limit_s, 5.0))).run()
    load = Load(plan)
    gc.collect()
    gc.disable()
    before = ProcessTimes.of(server_pid) if server_pid else None
    own_before = time.process_time()
    load.run()
    own_cpu_s = time.process_time() - own_before
    after = ProcessTimes.of(server_pid) if server_pid else None
    gc.enable()
    load.check()
    tally = load.tally
    result: dict[str, Any] = {
        "plan": attrs.asdict(plan),
        "seconds": load.seconds,
        "correct": tally.correct,
        "failed": sum(tally.errors.values()),
        "errors": dict(tally.errors),
        "examples": tally.examples,
        "tokens": tally.tokens,
        "requests_per_s": tally.correct / load.seconds,
        "tokens_per_s": tally.tokens / load.seconds,
        "latency_s": percentiles(tally.latency),
        "ttft_s": percentiles(tally.ttft),
        "token_gap_s": percentiles(tally.token_gap),
        "steady_gap_s": percentiles(tally.steady_gaps()),
        "read_gap_s": percentiles(tally.read_gap),
        "tokens_per_chunk": percentiles(tally.per_chunk),
        "client": {
            "cpu_s": own_cpu_s,
            "busy": own_cpu_s / load.seconds,
            "cores": sorted(os.sched_getaffinity(0)),
            "checked_early": load.checked_early,
        },
    }
    if server_pid and before and after:
        cpu_s = after.cpu - before.cpu
        result["server"] = {
            "cpu_s": cpu_s,
            "busy": cpu_s / load.seconds,
            "waited": (after.waited - before.waited) / load.seconds,
            "cpu_ms_per_request": 1e3 * cpu_s / max(1, tally.correct),
            "cpu_us_per_token": 1e6 * cpu_s / max(1, tally.tokens),
            "resident_bytes": resident_bytes(server_pid),
        }
    return result


def table(result: dict[str, Any]) -> str:
    """The same for people. Times in milliseconds."""
    speed = f"{result['requests_per_s']:.0f} requests/s, {result['tokens_per_s']:.0f} tokens/s"
    lines = [
        f"{result['correct']} of {result['plan']['requests']} answers correct in {result['seconds']:.2f} s: {speed}",
        f"{'':18}{'mean':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}",
    ]
    for name, unit, scale in (
        ("latency_s", "ms", 1e3),
        ("ttft_s", "ms", 1e3),
        ("token_gap_s", "ms", 1e3),
        ("steady_gap_s", "ms", 1e3),
        ("read_gap_s", "ms", 1e3),
        ("tokens_per_chunk", "", 1.0),
    ):
        if not result[name]:
            continue
        title = f"{name.removesuffix('_s').replace('_', ' ')} {unit}"
        lines.append(f"{title:18}" + "".join(f"{value * scale:9.1f}" for value in result[name].values()))
    if "server" in result:
        server = result["server"]
        lines.append(
            f"server: {server['cpu_ms_per_request']:.2f} ms CPU per request, {server['cpu_us_per_token']:.1f} us per"
            f" token, {server['busy']:.0%} of a core, {server['resident_bytes'] / 2**20:.0f} MiB resident;"
            f" {server['waited']:.0%} of the time it waited for other processes"
        )
    lines.append(f"client: {result['client']['busy']:.0%} of a core, on core {result['client']['cores']}")
    lines += [f"FAILED {count} x {kind}" for kind, count in result["errors"].items()]
    lines += [f"  {example}" for example in result["examples"]]
    return "\n".join(lines)


def loopback(url: str) -> tuple[str, int]:
    """Host and port of a URL on this machine. Raises `ValueError` for any other."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.port is None:
        raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} is not this machine: this client loads loopback addresses only")
    return host, parts.port


def main() -> None:
    parser = argparse.ArgumentParser(description="Load one llmactors node, and check every token of every answer.")
    parser.add_argument("url", help="http://127.0.0.1:PORT")
    parser.add_argument("--clients", type=int, default=60, help="requests at a time")
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=0, help="requests of up to 16 tokens before the clock starts")
    parser.add_argument("--new-connections", action="store_true", help="one connection per request")
    parser.add_argument("--any-text", action="store_true", help="the model is no mock: do not compare texts")
    parser.add_argument("--limit-s", type=float, default=60.0, help="break off after this")
    parser.add_argument("--stall-s", type=float, default=20.0, help="a silent request has failed after this")
    parser.add_argument("--core", type=int, help="run on this core")
    parser.add_argument("--server-pid", type=int, help="also report the CPU time of this process")
    given = parser.parse_args()
    try:
        host, port = loopback(given.url)
    except ValueError as error:
        parser.error(str(error))
    if not (0 < given.clients <= MAX_CLIENTS and 0 < given.requests <= MAX_REQUESTS and given.max_tokens > 0):
        parser.error(f"at least 1, at most {MAX_CLIENTS} clients and {MAX_REQUESTS} requests")
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    plan = Plan(
        host=host,
        port=port,
        clients=given.clients,
        requests=given.requests,
        max_tokens=given.max_tokens,
        keep_alive=not given.new_connections,
        oracle=not given.any_text,
        limit_s=given.limit_s,
        stall_s=given.stall_s,
    )
    result = measure(plan, warmup=given.warmup, server_pid=given.server_pid)
    print(table(result), file=sys.stderr)
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
