"""A process whose parts run out of memory, exit, or are interrupted ends in time, with a code and one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PROGRAM = """
import sys, trio
from llmactors.actors import Actor, ActorSpec, Observer, SupervisorSpec, Tree, Phase, run_phases
from llmactors.cli import exit_code_of
from llmactors.cli.running import run_until_signal, set_up_output
from llmactors.config import Settings

place, kind, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])
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
        for level in range(depth):
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
    run_until_signal(Program(), lambda: print("ready", flush=True))


sys.exit(exit_code_of(main))
"""

CODES = {"memory": 70, "interrupt": 130, "exit": 3, "trio": 70}
LINES = {
    "memory": "llmactors: out of memory",
    "interrupt": "llmactors: interrupted",
    "exit": "llmactors: a part of the program ended the process with code 3",
    "trio": "llmactors: TrioInternalError: broken",
}


def run(place: str, kind: str, depth: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, place, kind, str(depth)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("place", ["start", "message", "task", "cleanup", "observer"])
def test_fatal_error_ends_the_process_with_one_line(place: str, kind: str) -> None:
    processes = [run(place, kind, depth) for depth in (1, 2, 3)]
    for process in processes:
        _, err = process.communicate(timeout=20)
        assert process.returncode == CODES[kind], err
        assert err.splitlines()[-1] == LINES[kind]
        assert "Traceback" not in err


@pytest.mark.parametrize("kind", CODES)
def test_fatal_error_in_a_shutdown_ends_the_process(kind: str) -> None:
    process = run("phase", kind, 2)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == CODES[kind], err
    assert err.splitlines()[-1] == LINES[kind]


def test_actor_that_never_stops_does_not_keep_the_process() -> None:
    process = run("stuck", "memory", 2)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 70
    assert "actors do not stop" in err


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
