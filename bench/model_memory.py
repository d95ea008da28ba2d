"""What the default model takes of memory, by slots and context: figures of the handbook's section on sizing.

`python -m bench.model_memory` takes a minute.
"""

import httpx
import psutil
import trio

from llmactors.testing.node import NodeProcess

SLOTS = (1, 4, 8)
CONTEXTS = (2048, 8192)


def main() -> None:
    """Prints the resident memory of the node and of the model's process for each number of slots and each context."""
    print("| slots | context | node | model, started | model, after answers in all slots |\n|---|---|---|---|---|")
    for context in CONTEXTS:
        for slots in SLOTS:
            flags = ("--slots", str(slots), "--context", str(context), "--bind", "127.0.0.1:0")
            with NodeProcess("serve", "--model", "smollm2-135m", *flags) as node:
                url = node.wait_ready()
                process = psutil.Process(node.process.pid)
                started = _of_children(process)
                trio.run(_use_all_slots, url, slots)
                sizes = (process.memory_info().rss, started, _of_children(process))
                print(f"| {slots} | {context} | {' | '.join(map(_mib, sizes))} |", flush=True)
                node.stop()


async def _use_all_slots(url: str, slots: int) -> None:
    body = {"prompt": "Write a long story.", "max_tokens": 64, "temperature": 0.8}
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client, trio.open_nursery() as nursery:

        async def ask(seed: int) -> None:
            (await client.post("/v1/generate", json={**body, "seed": seed})).raise_for_status()

        for seed in range(slots):
            nursery.start_soon(ask, seed)


def _of_children(process: psutil.Process) -> int:
    return sum(child.memory_info().rss for child in process.children(recursive=True))


def _mib(size: int) -> str:
    return f"{round(size / 2**20)} MiB"


if __name__ == "__main__":
    main()
