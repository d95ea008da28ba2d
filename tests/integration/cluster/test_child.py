"""A child process under supervision, as an actor."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import attrs
import pytest
import structlog
import trio

from llmactors.actors import ActorSpec, Backoff, Restart, SupervisorSpec, Tree
from llmactors.actors.errors import StartFailed
from llmactors.cluster.child import ChildActor, ChildSpec, EndProcess
from llmactors.cluster.parent_death import ends_with_this_process
from llmactors.testing.host import is_alive
from llmactors.testing.node import wait_until

pytestmark = pytest.mark.integration

POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("hello", file=sys.stderr, flush=True)
print("ready now", flush=True)
while True: time.sleep(1)
"""
DEAF = POLITE.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")


@attrs.define
class Seen:
    """What the actor reported."""

    actor: list[ChildActor] = attrs.field(factory=list)
    ready: list[str] = attrs.field(factory=list)
    lines: list[str] = attrs.field(factory=list)

    @property
    def pid(self) -> int:
        pid = self.actor[-1].pid
        assert pid is not None
        return pid


@contextlib.asynccontextmanager
async def child(program: str, *, grace_s: float = 5.0) -> AsyncIterator[tuple[Seen, ActorSpec]]:
    seen = Seen()
    what = ChildSpec(
        name="c1",
        command=[sys.executable, "-c", program],
        ready=lambda line: line.startswith("ready"),
        on_ready=seen.ready.append,
        on_line=seen.lines.append,
        reason=lambda line: line.partition("llmactors: ")[2],
        grace_s=grace_s,
    )

    def make() -> ChildActor:
        seen.actor.append(ChildActor(what))
        return seen.actor[-1]

    spec = ActorSpec("c1", make, restart=Restart.TRANSIENT, grace_s=0.5, cleanup_s=20)
    tree = Tree(SupervisorSpec("root", (spec,), backoff=Backoff(first_s=0.05, cap_s=0.1)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        yield seen, spec
        tree.stop()


async def test_child_starts_when_ready_and_ends_with_the_tree() -> None:
    async with child(POLITE) as (seen, _):
        assert seen.ready == ["ready now"]
        await wait_until(lambda: seen.lines == ["hello"])
        assert is_alive(seen.pid)
    assert not is_alive(seen.pid)
    assert len(seen.actor) == 1


async def test_killed_child_is_restarted() -> None:
    async with child(POLITE) as (seen, spec):
        os.kill(seen.pid, signal.SIGKILL)
        await wait_until(lambda: len(seen.ready) == 2)
        assert is_alive(seen.pid)
        assert str(spec.ref.status.last_exit).endswith("c1 was killed by SIGKILL")


async def test_child_with_exit_code_0_is_not_restarted() -> None:
    """The log says so, because somebody else has ended the process."""
    with structlog.testing.capture_logs() as lines:
        async with child(POLITE) as (seen, spec):
            os.kill(seen.pid, signal.SIGTERM)
            await wait_until(lambda: not spec.ref.running)
            await trio.sleep(0.3)
            assert len(seen.actor) == 1
        async with child(POLITE) as (_, spec):
            await spec.ref.ask(EndProcess())
    said = [line["process"] for line in lines if line["event"].startswith("a process has ended by itself")]
    assert said == ["c1"]


async def test_child_told_to_end_is_not_restarted_after_exit_code_3() -> None:
    async with child(POLITE.replace("exit(0)", "exit(3)")) as (seen, spec):
        await spec.ref.ask(EndProcess())
        assert not is_alive(seen.pid)
        await trio.sleep(0.3)
        assert len(seen.actor) == 1


async def test_child_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    async with child(DEAF, grace_s=0.2) as (seen, _):
        began = trio.current_time()
    assert not is_alive(seen.pid)
    assert 0.2 <= trio.current_time() - began < 3


async def test_failed_start_reports_exit_code_and_stderr() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with child("import sys; print('llmactors: no such model', file=sys.stderr); sys.exit(1)"):
            pass
    [error] = caught.value.exceptions
    assert isinstance(error, StartFailed)
    assert "c1 exited with code 1: no such model" in repr(error.__cause__)


CHAIN = """
import subprocess, sys, time
from llmactors.cluster.parent_death import ends_with_this_process
left = int(sys.argv[1])
if left:
    child = subprocess.Popen(ends_with_this_process([sys.executable, "-c", sys.argv[2], str(left - 1), sys.argv[2]]))
    print(child.pid, flush=True)
else:
    print("whole", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_chain_of_processes_dies_with_its_first(*, stopped: bool) -> None:
    """A child of a child ends too, and one that does not run at that moment, as after SIGSTOP."""
    with subprocess.Popen(
        [sys.executable, "-c", CHAIN, "2", CHAIN], stdout=subprocess.PIPE, text=True, process_group=0
    ) as first:
        assert first.stdout is not None
        lines = [first.stdout.readline().strip() for _ in range(3)]
        assert sorted(lines)[2] == "whole"
        pids = [int(line) for line in lines if line != "whole"]
        if stopped:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        first.kill()
        deadline = time.monotonic() + 10
        while any(map(is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.01)
        left = [pid for pid in pids if is_alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left


def test_child_whose_parent_has_died_never_begins() -> None:
    """The parent may die before the child has asked the kernel for the signal."""
    command = ends_with_this_process([sys.executable, "-c", "print('began')"])
    command[command.index(str(os.getpid()))] = "1" if os.getpid() != 1 else "2"  # another process than the parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
