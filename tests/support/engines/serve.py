"""A double in a process of its own: `python -m tests.support.engines.serve vllm|sglang PORT STEP_MS`."""

import sys

import trio

from tests.support.engines.sglang import SglangDouble
from tests.support.engines.vllm import VllmDouble
from tests.support.faulty_upstream import FaultyUpstream


async def main(engine: str, port: int, step_s: float) -> None:
    """Serves until the process is killed."""
    double = VllmDouble(step_s=step_s) if engine == "vllm" else SglangDouble(step_s=step_s)
    server = FaultyUpstream([double])
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    await trio.serve_listeners(server.serve, listeners)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000)
