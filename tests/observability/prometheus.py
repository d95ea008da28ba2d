"""A Prometheus server of Debian's package, which scrapes the processes of a cluster."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from llmactors.testing.cluster import Cluster
from llmactors.testing.host import free_port
from tests.support.documents import PROJECT

RULES = PROJECT / "ops" / "prometheus" / "rules"
_START_S = 20.0


class NoPrometheusError(Exception):
    """Prometheus is not installed."""


@attrs.frozen
class Prometheus:
    """A running server."""

    client: httpx.AsyncClient
    directory: Path

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression gives now.

        Raises:
            ValueError: Prometheus refuses the expression. The text says why.
        """
        answer = await self._get("/api/v1/query", {"query": expr})
        found: list[dict[str, Any]] = answer["result"]
        return found

    async def label_values(self, label: str, selector: str) -> list[str]:
        """The values of a label, as a variable of a dashboard asks for them."""
        answer: Any = await self._get(f"/api/v1/label/{label}/values", {"match[]": selector})
        values: list[str] = answer
        return values

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {each["metric"]["alertname"] for each in await self.query('ALERTS{alertstate="firing"}')}

    async def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        reply = (await self.client.get(path, params=parameters)).json()
        if reply["status"] != "success":
            raise ValueError(f"{reply['error']}: {parameters}")
        return reply["data"]


@contextlib.asynccontextmanager
async def prometheus(cluster: Cluster, directory: Path, rules: Path = RULES) -> AsyncIterator[Prometheus]:
    """Runs a server that scrapes all processes of the cluster once a second, until the block ends.

    Args:
        cluster: A cluster with `worker_metrics`.
        directory: An empty folder for the files of the server.
        rules: The folder of the rules, which the server evaluates once a second.

    Raises:
        NoPrometheusError: The program is not installed.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise NoPrometheusError("prometheus is not installed: apt-get install -y prometheus")
    _write_config(directory, rules)
    _write_targets(directory, cluster)
    port = free_port()
    command = [
        program,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with _process(command, directory / "log") as process:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await _wait_ready(client, process, directory)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_follow_targets, directory, cluster)
                yield Prometheus(client, directory)
                nursery.cancel_scope.cancel(reason="the server is not needed any more")


@contextlib.contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.kill()


async def _wait_ready(client: httpx.AsyncClient, process: subprocess.Popen[bytes], directory: Path) -> None:
    with trio.fail_after(_START_S):
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"prometheus did not start: {(directory / 'log').read_text()[-2000:]}")
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/-/ready")).status_code == 200:
                    return
            await trio.sleep(0.1)


async def _follow_targets(directory: Path, cluster: Cluster) -> None:
    """A worker that starts again has another port."""
    while True:
        await trio.sleep(0.5)
        _write_targets(directory, cluster)


def _write_targets(directory: Path, cluster: Cluster) -> None:
    groups = [
        {"targets": [member.url.removeprefix("http://")], "labels": {"job": member.role, "instance": member.name}}
        for member in cluster.members
        if member.url
    ]
    draft = directory / "targets.json.part"
    draft.write_text(json.dumps(groups), encoding="utf-8")
    draft.replace(directory / "targets.json")


def _write_config(directory: Path, rules: Path) -> None:
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{rules}/*.yml"],
        "scrape_configs": [
            {
                "job_name": "llmactors",
                "file_sd_configs": [{"files": [f"{directory}/targets.json"], "refresh_interval": "1s"}],
            }
        ],
    }
    # YAML contains JSON.
    (directory / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
