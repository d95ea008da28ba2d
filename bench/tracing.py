"""What traces cost: the CPU time of a node for each token, without and with traces, by turns.

    python -m bench.tracing                # 12 pairs of turns, about a minute
    python -m bench.tracing --tokens 16    # short answers, so that spans are a larger part

Two nodes of one process serve the simulated model at the same time. One exports a trace of each request to a collector
of this program, and the other one exports nothing. A turn asks one node for the same answers, and neighbouring turns
are a pair. Read the ratio, and not the values: the speed of a shared machine changes.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import psutil

from llmactors.testing.node import NodeProcess


def main() -> None:
    """Prints the CPU time per token of both nodes, and the ratio of the pairs."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=12, help="pairs of turns [12]")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer [64]")
    parser.add_argument("--requests", type=int, default=400, help="requests of a turn [400]")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Collector))
        Thread(target=server.serve_forever, daemon=True).start()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        model = ("--model", "mock=mock:slots=64", "--bind", "127.0.0.1:0")
        nodes = [
            stack.enter_context(NodeProcess("serve", *model, *flags, environ=environ)) for flags in ((), ("--traces",))
        ]
        for node in nodes:
            node.wait_ready()
            measure(node, options.requests, options.tokens)
        pairs = []
        for number in range(options.pairs):
            order = nodes if number % 2 else nodes[::-1]
            found = {node: measure(node, options.requests, options.tokens) for node in order}
            pairs.append((found[nodes[0]], found[nodes[1]]))
        ratios = sorted(on / off for off, on in pairs)
        off, on = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(
            f"CPU per token, answers of {options.tokens} tokens: {off:.1f} us without traces, {on:.1f} us with traces"
        )
        middle = ratios[len(ratios) // 4 : -(len(ratios) // 4) or None]
        print(f"ratio: median {statistics.median(ratios):.3f}, middle half {middle[0]:.3f} to {middle[-1]:.3f}")
        print(f"spans: {Collector.requests} exports to the collector")
        server.shutdown()


def measure(node: NodeProcess, requests: int, tokens: int) -> float:
    """The microseconds of CPU time that the node takes for each token of one turn."""
    process = psutil.Process(node.process.pid)
    before = sum(process.cpu_times()[:2])
    amount = ("--clients", "32", "--requests", str(requests), "--max-tokens", str(tokens))
    subprocess.run(
        [sys.executable, "-m", "llmactors", "load", node.url, *amount], check=True, stdout=subprocess.DEVNULL
    )
    return (sum(process.cpu_times()[:2]) - before) / (requests * tokens) * 1e6


class Collector(BaseHTTPRequestHandler):
    """Takes every export, and reads none."""

    requests = 0
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answers an export."""
        self.rfile.read(int(self.headers["content-length"]))
        Collector.requests += 1
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    main()
