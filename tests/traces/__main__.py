"""Shows one trace over the death of a worker: `python -m tests.traces` kills a worker, and prints the trace as a tree.

A gateway and two workers run as processes on a Redis server, and export their spans to a collector of this program.
"""

import sys

from llmactors.testing.redis_server import redis_server
from tests.support.otlp_receiver import otlp_receiver
from tests.support.trace_tree import trace_tree
from tests.support.traced_takeover import TOKENS, traced_takeover


def main() -> int:
    """Returns 0 where the client got each token once and in order."""
    with otlp_receiver() as receiver, redis_server() as server:
        found = traced_takeover(server.url, receiver)
    print(trace_tree(found.spans))
    whole = found.seqs == [*range(1, TOKENS + 2)]
    print(f"\nThe client got {len(found.seqs)} events, {'each once and in order' if whole else found.seqs}.")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
