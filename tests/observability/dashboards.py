"""Run every query of the dashboard against a Prometheus that scrapes a cluster under load.

    python -m tests.observability.dashboards

The program exits with 1 if Prometheus refuses a query, or if a query gives no data and `RIGHTLY_EMPTY` does not say
why. Recording rules and the variables of the dashboard are asked for too.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

from llmactors.testing.managed_process import ManagedProcess
from ops.grafana.dashboard import ROWS, document
from tests.observability.prometheus import RULES, NoPrometheusError, Prometheus, prometheus
from tests.observability.scene import scene

LOAD_S = 6.0
"""How long the load runs before and after the kill of a worker."""
PATIENCE_S = 15.0
"""How long a query may take to give data after that: a rate needs two scrapes of what happened."""
RIGHTLY_EMPTY = {
    "Error replies of Redis: {{kind}}": "Redis refuses nothing in this cluster",
    "Outages: outage: {{reason}}": "Redis has no outage in this cluster",
    "Lost lines and lost spans: spans {{outcome}}": "traces are off in this cluster",
    "Restarts of actors: {{actor}}": "no actor crashes in this cluster",
    "Alerts that fire: {{alertname}} ({{severity}})": "an alert may or may not fire within seconds",
}
"""Why a query gives no data here, by the titles of panels and the legends of queries."""
_MAY_FIRE = {"Alerts that fire: {{alertname}} ({{severity}})"}
_VARIABLE = re.compile(r"label_values\((?P<selector>.*), (?P<label>\w+)\)")


@attrs.frozen
class Asked:
    """A query, and what it gave."""

    name: str
    series: int
    problem: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the query gave data, or is named as rightly empty."""
        if self.problem:
            return False
        return bool(self.series) != (self.name in RIGHTLY_EMPTY) or self.name in _MAY_FIRE

    def __str__(self) -> str:
        if self.problem:
            return f"REFUSED {self.name}: {self.problem}"
        if not self.is_right:
            return f"WRONG   {self.name}: {self.series} series"
        if not self.series:
            return f"empty   {self.name}: {RIGHTLY_EMPTY[self.name]}"
        return f"{self.series:>4}    {self.name}"


def queries() -> Iterator[tuple[str, str]]:
    """The name and the expression of every query, with the values that Grafana would put into the expression."""
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries:
                expr = query.expr.replace("$model", ".*").replace("$instance", ".*")
                yield f"{panel.title}: {query.legend}", expr.replace("$__rate_interval", "10s")
    for record in recorded():
        yield f"recording rule {record}", record


def recorded() -> list[str]:
    """The names of all recording rules."""
    rules = msgspec.yaml.decode((RULES / "recording.yml").read_bytes())
    return [rule["record"] for group in rules["groups"] for rule in group["rules"]]


async def ask(server: Prometheus) -> list[Asked]:
    """Runs every query once."""
    found = []
    for name, expr in queries():
        try:
            found.append(Asked(name, len(await server.query(expr))))
        except ValueError as error:
            found.append(Asked(name, 0, str(error)))
    for variable in document()["templating"]["list"]:
        if match := _VARIABLE.fullmatch(str(variable["query"].get("query", "")) if variable["type"] == "query" else ""):
            values = await server.label_values(match["label"], match["selector"])
            found.append(Asked(f"variable {variable['name']}", len(values)))
    return found


async def _kill(worker: ManagedProcess) -> None:
    starts = worker.starts
    worker.kill()
    with trio.fail_after(20):
        await worker.wait_ready(starts + 1)


async def run() -> list[Asked]:
    """Starts everything, loads the cluster, kills a worker meanwhile, and asks."""
    with tempfile.TemporaryDirectory(prefix="llmactors-dashboards-") as name:
        directory = Path(name)
        async with scene(directory) as running, prometheus(running.cluster, directory) as server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.load)
                await trio.sleep(LOAD_S)
                await _kill(running.cluster.workers[0])
                await trio.sleep(LOAD_S)
                asked = await ask(server)
                with trio.move_on_after(PATIENCE_S):
                    while not all(each.is_right for each in asked):
                        await trio.sleep(1)
                        asked = await ask(server)
                nursery.cancel_scope.cancel(reason="all queries have been asked")
            return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each query; 0 if all are right."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args(arguments)
    began = time.monotonic()
    try:
        asked = trio.run(run)
    except NoPrometheusError as error:
        print(error, file=sys.stderr)
        return 1
    print(*asked, sep="\n")
    wrong = [each for each in asked if not each.is_right]
    print(f"{len(asked)} queries, {len(wrong)} wrong, in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
