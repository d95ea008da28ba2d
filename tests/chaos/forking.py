"""A cluster whose processes are forked from one that has imported everything, so that a restart is cheap."""

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import attrs
import trio

from llmactors.testing.cluster import Cluster
from llmactors.testing.managed_process import ManagedProcess

_POLL_S = 0.02
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tests.chaos.sabotage",
        "llmactors.cli",
        "llmactors.cli.gateway",
        "llmactors.cli.worker",
        "llmactors.system.worker_node",
    ]
)


def run_command(arguments: tuple[str, ...], environ: dict[str, str], out: str, err: str) -> None:
    """The command in a forked process, with its output in two files."""
    for path, descriptor in ((out, 1), (err, 2)):
        with Path(path).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.update(environ)
    # What a keeper starts gateways with, which it takes from the command line of this process.
    sys.orig_argv = [sys.executable, "-m", "tests.chaos.storm.keepers", *arguments]
    from llmactors.cli import run
    from llmactors.telemetry.standard_streams import flush_standard_streams
    from tests.chaos.sabotage import accept_sabotage

    accept_sabotage()
    code = run(list(arguments))
    flush_standard_streams()  # a forked process ends without what `atexit` would do
    sys.exit(code)


@attrs.frozen
class Forked:
    """A forked process, with the methods of `subprocess.Popen` that a `ManagedProcess` needs."""

    process: ForkServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self) -> None:
        self.process.join()


class ForkedProcess(ManagedProcess):
    """One process of a cluster, forked."""

    async def _start(self) -> None:
        self.starts += 1
        environ = {"LLMACTORS_LOG_FORMAT": "json", **self.environ}
        process = _CONTEXT.Process(
            target=run_command, args=(self.arguments, environ, str(self._path("out")), str(self._path("err")))
        )
        process.start()
        self._process = Forked(process)  # type: ignore[assignment]
        while self.alive and not self.ready:
            await trio.sleep(_POLL_S)
            self._read_ready_line()


class ForkingCluster(Cluster):
    """A cluster of forked processes."""

    member_type = ForkedProcess
