"""Measure how much the load client can receive, and so whether the client limits other figures.

    python -m bench.calibrate

A server that computes nothing runs on one core and sends the same bytes on every connection. The client runs on another
core, as in every measurement. The server sends in two ways:

- whole: each answer in one write, so that the number of requests limits the client;
- paced: one write per token or per few tokens, to all streams in turn, so that the number of reads limits the client.

Both processes are Python programs, so either may limit a rate. The client limits the rate only where its busy share is
close to 100 %.
"""

import argparse
import contextlib
import os
import select
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator

import attrs

from llmactors.load.measure import measure
from llmactors.load.plan import Check, Plan
from llmactors.load.target import Target
from tests.support.canned_answers import native_events

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: req_1\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@attrs.define(eq=False)
class ServerConnection:
    """One connection to a client."""

    sock: socket.socket
    left: Iterator[bytes] | None = None
    """The writes of the current answer that are left; None: no answer is being sent."""


def serve(tokens: int, per_chunk: int, *, whole: bool) -> None:
    """Send the same answer for every request, for ever. The first line of output is the port."""
    events = native_events("canned", 1, tokens)
    pieces = [b"".join(events[at : at + per_chunk]) for at in range(0, len(events), per_chunk)]
    writes = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    writes = [_HEAD + writes[0], *writes[1:-1], writes[-1] + b"0\r\n\r\n"]
    if whole:
        writes = [b"".join(writes)]
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    streams: dict[int, ServerConnection] = {}
    print(listener.getsockname()[1], flush=True)
    while True:
        running = [stream for stream in streams.values() if stream.left is not None]
        for stream in running:
            assert stream.left is not None
            piece = next(stream.left, None)
            if piece is None:
                stream.left = None
            else:
                with contextlib.suppress(ConnectionError):
                    stream.sock.sendall(piece)
        for fd, _ in epoll.poll(0 if running else -1):
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                streams[sock.fileno()] = ServerConnection(sock)
                epoll.register(sock, select.EPOLLIN)
                continue
            data = b""
            with contextlib.suppress(ConnectionError):
                data = streams[fd].sock.recv(65536)
            if data:
                streams[fd].left = iter(writes)
            else:
                streams.pop(fd).sock.close()


@contextlib.contextmanager
def server(tokens: int, per_chunk: int, *, whole: bool, core: int) -> Iterator[str]:
    """The address of a server process on the core `core`, which ends with the block."""
    command = [sys.executable, "-m", "bench.calibrate", "--serve", str(tokens), str(per_chunk), str(int(whole))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how much the load client can receive.")
    parser.add_argument("--rounds", type=int, default=3, help="the table shows medians over so many rounds [3]")
    parser.add_argument("--serve", nargs=3, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], given.serve[1], whole=bool(given.serve[2]))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    print(f"{'':28}requests/s   tokens/s    reads/s  client busy  client us: per request, per read")
    for name, clients, requests, tokens, per_chunk, whole in (
        ("whole, 64 tokens", 60, 6000, 64, 8, True),
        ("8 tokens a write, 60 streams", 60, 3000, 64, 8, False),
        ("1 token a write, 60 streams", 60, 1500, 64, 1, False),
        ("1 token a write, 1000 streams", 1000, 1000, 128, 1, False),
    ):
        rows = []
        with server(tokens, per_chunk, whole=whole, core=cores[0]) as url:
            plan = Plan(
                target=Target.parse(url),
                check=Check.SHAPE,
                clients=clients,
                requests=requests,
                max_tokens=tokens,
            )
            for _ in range(given.rounds):
                result = measure(plan, warmup=clients)
                assert result["correct"] == requests, result["errors"]
                reads = requests * (1 if whole else -(-(tokens + 1) // per_chunk))
                client = result["client"]
                rows.append(
                    (
                        result["requests_per_s"],
                        result["tokens_per_s"],
                        reads / result["seconds"],
                        client["busy"],
                        1e6 * client["cpu_s"] / requests,
                        1e6 * client["cpu_s"] / reads,
                    )
                )
        rates = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(
            f"{name:28}{rates[0]:11,.0f}{rates[1]:11,.0f}{rates[2]:11,.0f}{rates[3]:13.0%}{rates[4]:16.1f}{rates[5]:10.1f}"
        )


if __name__ == "__main__":
    main()
