"""A process whose parts run out of memory, exit, or are interrupted ends in time, with a code and one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.integration

PROGRAM = """
import os, sys, trio
from pathlib import Path
from llmactors.actors import Actor, ActorSpec, Observer, SupervisorSpec, Tree, Phase, run_phases
from llmactors.cli import exit_code_of
from llmactors.cli.running import run_until_signal, set_up_output
from llmactors.config import Settings

place, kind, depths, folder = sys.argv[1], sys.argv[2], sys.argv[3].split(","), Path(sys.argv[4])
make = {
    "memory": MemoryError,
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "trio": lambda: trio.TrioInternalError("broken"),
}[kind]


class Faulty(Actor):
    async def on_start(self, context):
        if place == "start":
            raise make()
        if place == "task":
            context.spawn(self.fail)
        context.ref.tell_nowait("go")

    async def on_message(self, message):
        await trio.sleep(0.1)
        if place == "message":
            raise make()
        if place in ("cleanup", "observer"):
            raise ValueError("an ordinary crash")

    async def on_stop(self):
        if place == "cleanup":
            raise make()

    async def fail(self):
        raise make()


class Stuck(Actor):
    async def on_stop(self):
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


class Watching(Observer):
    def restarting(self, *args, **named):
        if place == "observer":
            raise make()


class Program:
    ends_within_s = 1.0

    def __init__(self):
        child = ActorSpec("faulty", Faulty)
        if place == "stuck":
            child = ActorSpec("stuck", Stuck, cleanup_s=1e9)
        for level in range(int(depth)):
            child = SupervisorSpec(f"level{level}", (ActorSpec(f"quiet{level}", Actor), child))
        self.tree = Tree(child, observer=Watching())

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.tree.run)
            task_status.started()

    async def shut_down(self):
        async def phase():
            if place == "phase":
                raise make()
        await run_phases([Phase("one", phase)], overall_s=5)
        self.tree.stop()


def main():
    set_up_output(Settings(log_format="console"))
    run_until_signal(Program(), lambda: print("ready", os.getpid(), flush=True))


# A process for each depth. Together they import the package once.
processes = []
for depth in depths:
    if not (process := os.fork()):
        with (folder / depth).open("w") as errors:
            os.dup2(errors.fileno(), 2)
        sys.exit(exit_code_of(main))
    processes.append(process)
for process in processes:
    _, status = os.waitpid(process, 0)
    print("code", os.waitstatus_to_exitcode(status))
"""
DEPTHS = ("1", "2", "3")
"""How many supervisors are above the faulty actor."""

CODES = {"memory": 70, "interrupt": 130, "exit": 3, "trio": 70}
LINES = {
    "memory": "llmactors: out of memory",
    "interrupt": "llmactors: interrupted",
    "exit": "llmactors: a part of the program ended the process with code 3",
    "trio": "llmactors: TrioInternalError: broken",
}


@attrs.frozen
class Programs:
    """The processes of `PROGRAM` at some depths."""

    starter: subprocess.Popen[str]
    folder: Path

    def interrupt(self) -> None:
        """Waits until a program of one depth is ready, and sends SIGTERM to its process."""
        assert self.starter.stdout is not None
        said = self.starter.stdout.readline().split()
        assert said[0] == "ready"
        os.kill(int(said[1]), signal.SIGTERM)

    def wait(self, code: int) -> list[str]:
        """Waits until all processes have ended with `code`, and returns what each wrote to standard error."""
        out, err = self.starter.communicate(timeout=20)
        assert self.starter.returncode == 0, err
        written = [path.read_text() for path in self.folder.iterdir()]
        codes = [line for line in out.splitlines() if line.startswith("code")]
        assert codes == [f"code {code}"] * len(written), written
        return written


def run(folder: Path, place: str, kind: str, *depths: str) -> Programs:
    command = [sys.executable, "-c", PROGRAM, place, kind, ",".join(depths), str(folder)]
    return Programs(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), folder)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("place", ["start", "message", "task", "cleanup", "observer"])
def test_fatal_error_ends_the_process_with_one_line(place: str, kind: str, tmp_path: Path) -> None:
    written = run(tmp_path, place, kind, *DEPTHS).wait(CODES[kind])
    assert len(written) == len(DEPTHS)
    for text in written:
        assert text.splitlines()[-1] == LINES[kind]
        assert "Traceback" not in text


@pytest.mark.parametrize("kind", CODES)
def test_fatal_error_in_a_shutdown_ends_the_process(kind: str, tmp_path: Path) -> None:
    programs = run(tmp_path, "phase", kind, "2")
    programs.interrupt()
    [text] = programs.wait(CODES[kind])
    assert text.splitlines()[-1] == LINES[kind]


def test_actor_that_never_stops_does_not_keep_the_process(tmp_path: Path) -> None:
    programs = run(tmp_path, "stuck", "memory", "2")
    programs.interrupt()
    [text] = programs.wait(70)
    assert "actors do not stop" in text


BACKEND = """
import trio
from llmactors.backends.base import Capabilities, Takeover


class Faulty:
    def __init__(self, place: str, error: str):
        self.place = place
        self.error = eval(error)
        self.capabilities = Capabilities(slots=8, context_tokens=4096, takeover=Takeover.EXACT)
        self.fail("make")

    def fail(self, place):
        if place == self.place:
            raise self.error

    async def start(self):
        self.fail("start")

    async def check(self):
        self.fail("check")

    async def close(self):
        self.fail("close")

    async def generate(self, job):
        self.fail("generate")
        yield


def shout(prompts, max_tokens):
    raise MemoryError
    yield
"""


@pytest.mark.parametrize("place", ["make", "start", "check"])
@pytest.mark.parametrize(("error", "code"), [("MemoryError()", 70), ("SystemExit(3)", 3)])
def test_fatal_error_in_a_backend_ends_the_node(place: str, error: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(BACKEND)
    model = f"faulty:Faulty,place={place},error={error}"
    begun = time.monotonic()
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "llmactors",
            "serve",
            "--model",
            model,
            "--bind",
            "127.0.0.1:0",
            "--log-format",
            "console",
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == code, result.stderr
    assert result.stderr.splitlines()[-1].startswith("llmactors: ")
    assert "Traceback" not in result.stderr
    assert time.monotonic() - begun < 20
