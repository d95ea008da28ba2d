"""One process of the original design, with the flags of `python -m llmactors gateway` and `worker`."""

import argparse
import logging

from bench.peers.origin import gateway, worker
from bench.peers.work import Model


def main() -> None:
    parser = argparse.ArgumentParser(description="One process of the original design.")
    parser.add_argument("role", choices=["gateway", "worker"])
    parser.add_argument("--redis", required=True)
    parser.add_argument("--name", default="origin")
    parser.add_argument("--bind", default="127.0.0.1:8000")
    parser.add_argument("--model", type=Model.parse, default=Model(0.02, 64))
    parser.add_argument("--metrics-bind", help="ignored: this design has no metrics")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if given.role == "gateway":
        host, _, port = given.bind.rpartition(":")
        gateway.run(given.redis, host, int(port), given.name)
    else:
        worker.run(given.redis, given.model, given.name)


if __name__ == "__main__":
    main()
