"""A thousand queued requests of a hundred tenants: whether they are served in a fair order, and what each costs.

Streams that get no end have all slots while the requests arrive, one tenant's after the other's. Then those streams are
closed, and the requests are served at the speed of the model. A fair order gives each tenant its first answer before
any tenant gets a second one.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.queued_requests import QueuedRequests
from bench.scenario import Bench, Figure, Round, Scenario
from bench.servers import OURS, RunningServer
from llmactors.access.keys.file import write_keys
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import new_key
from llmactors.load.processes import ProcessUsage

TENANTS = 100
REQUESTS = 1000
SLOTS = 8
STEP_MS = 5
MAX_TOKENS = 8
ENDLESS = 30_000
LIMIT_S = 120.0


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Queue all requests, and read all answers."""
    tenants, requests = bench.size(SCENARIO, "tenants"), bench.size(SCENARIO, "requests")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        endless_key, *keys = make_keys(path, ["endless", *(f"tenant-{number}" for number in range(tenants))])
        settings = {"keys": path, "max_queued": 2 * requests, "resume_grace_s": 0, "keep_alive_s": 10_000}
        model = f"mock:step_ms={STEP_MS},slots={SLOTS},context={2 * ENDLESS}"
        with bench.run_server(name, model, settings=settings) as server:
            begun = server.usage()
            with _queue(server, endless_key, keys, requests) as queued:
                all_queued = server.usage()
                firsts = queued.read_all(LIMIT_S)
            served = server.usage()
    order = sorted(range(requests), key=firsts.__getitem__)
    tenant_of = [index * tenants // requests for index in range(requests)]
    return {
        "fairness": fairness([tenant_of[index] for index in order], tenants),
        "out_of_turn": out_of_turn([tenant_of[index] for index in order], tenants),
        "queue_cpu_ms": 1e3 * _cpu_s(begun, all_queued) / requests,
        "serve_cpu_ms": 1e3 * _cpu_s(all_queued, served) / requests,
        "cpu_ms": 1e3 * _cpu_s(begun, served) / requests,
        "failed": 0,
    }


@contextmanager
def _queue(server: RunningServer, endless_key: str, keys: Sequence[str], requests: int) -> Iterator[QueuedRequests]:
    """Requests that all wait until the block begins, and are served from then on."""
    per_tenant = requests // len(keys)
    with QueuedRequests(server.url) as queued:
        with QueuedRequests(server.url) as endless:
            for index in range(SLOTS):
                endless.send(index, endless_key, max_tokens=ENDLESS)
            endless.wait_begun(SLOTS)
            for index in range(requests):
                queued.send(index, keys[index // per_tenant], max_tokens=MAX_TOKENS)
            queued.wait_accepted(LIMIT_S)
        yield queued


def make_keys(path: Path, tenants: Sequence[str]) -> list[str]:
    """Write a file of keys, one for each tenant, and return the keys in the same order."""
    keys = [new_key() for _ in tenants]
    now = time.time()
    records = [
        KeyRecord(id=key.id, tenant=tenant, hash=key.digest, created=now)
        for key, tenant in zip(keys, tenants, strict=True)
    ]
    write_keys(path, records)
    return [key.text for key in keys]


def fairness(order: Sequence[int], tenants: int) -> float:
    """Jain's index of the answers that each tenant has when half of all have begun. Pure.

    1 is fair, and 1/tenants is worst. `order` has the tenant of each answer, in the order in which the answers began.
    """
    counts = Counter(order[: len(order) // 2])
    total = sum(counts.values())
    return total**2 / (tenants * sum(count**2 for count in counts.values()))


def out_of_turn(order: Sequence[int], tenants: int) -> int:
    """The most rounds of all tenants by which an answer began before or after its tenant's turn. Pure."""
    seen: Counter[int] = Counter()
    worst = 0
    for place, tenant in enumerate(order):
        worst = max(worst, abs(seen[tenant] - place // tenants))
        seen[tenant] += 1
    return worst


def _cpu_s(before: dict[str, ProcessUsage], after: dict[str, ProcessUsage]) -> float:
    return sum(usage.cpu_s - before[part].cpu_s for part, usage in after.items())


SCENARIO = Scenario(
    name="tenants",
    about=f"{REQUESTS:,} queued requests of {TENANTS} tenants, which arrive tenant by tenant; {SLOTS} slots",
    servers=OURS,
    figures=(
        Figure("fairness", "fairness when half of the answers have begun (Jain)", drawn=True),
        Figure("out_of_turn", "most rounds by which an answer came before or after its turn", drawn=True),
        Figure("cpu_ms", "server CPU per request", "ms", drawn=True),
        Figure("queue_cpu_ms", "server CPU per request, to queue it", "ms"),
        Figure("serve_cpu_ms", f"server CPU per request, to serve its {MAX_TOKENS} tokens", "ms"),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=1,
    sizes={"tenants": TENANTS, "requests": REQUESTS},
)
