"""The actor that runs a child process. A crash of the process is a crash of the actor, and both end together."""

import codecs
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import attrs
import structlog
import trio

from llmactors.actors import Actor, Context, Question
from llmactors.cluster.parent_death import ends_with_this_process
from llmactors.errors import OperatorError

log = structlog.get_logger("llmactors.cluster")

_KILL_S = 5.0
_POLL_S = 0.05
"""The time between two looks at a process where the kernel cannot tell of its end."""
_MAX_LINE_CHARACTERS = 64 * 1024
"""A longer line is passed on in parts, so that output without line ends takes no more memory."""
_LAST_OUTPUT_S = 1.0
"""The time to read the last output of a process that has ended."""


class ChildFailed(OperatorError):
    """A child process could not start, or ended without being asked to."""


@attrs.frozen(kw_only=True)
class ChildSpec:
    """A program, and how its process starts and ends."""

    name: str
    command: Sequence[str]
    ready: Callable[[str], bool]
    """Whether a line of the output says that the process is ready."""
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ, repr=False)
    on_ready: Callable[[str], None] = lambda _: None
    """Is called with the line for which `ready` is true."""
    on_line: Callable[[str], None] = lambda _: None
    """Is called with every other line of the output."""
    reason: Callable[[str], str] = lambda _: ""
    """The reason that a line of the output gives for a failure; empty for a line that gives none."""
    umask: int = -1
    """The umask of the process; -1: the one of this process."""
    grace_s: float = 5.0
    """The time to end after SIGTERM, before SIGKILL, in seconds."""


@attrs.frozen
class EndProcess(Question[None]):
    """Asks the actor to end the process by SIGTERM. The answer comes when the process has ended. The process is not
    started again.
    """


class ChildActor(Actor[EndProcess]):
    """Runs one process per incarnation. Exit code 0, as after a drain, is a normal end of the incarnation."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = trio.Event()
        self._ready = trio.Event()
        self._ending = False
        self._reason = ""

    def __repr__(self) -> str:
        return f"<ChildActor {self._spec.name} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """The process id; None before the process runs."""
        return None if self._process is None else self._process.pid

    async def on_start(self, context: Context) -> None:
        self._ref = context.ref
        self._context = context
        # Started by the main thread, as `parent_death` needs it. The process has a group of its own, so that Ctrl-C
        # reaches only the parent, which ends the children in order.
        process = self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - the start takes milliseconds, and the command is our own
            ends_with_this_process(self._spec.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self._spec.environ),
            process_group=0,
            umask=self._spec.umask,
        )
        context.spawn(self._wait_gone, process)
        self._readers = 2
        self._read_all = trio.Event()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None  # noqa: S101 - both pipes were requested
            context.spawn(self._read, pipe)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_then_cancel, self._ready, nursery.cancel_scope)
            nursery.start_soon(_then_cancel, self._gone, nursery.cancel_scope)
        if not self._ready.is_set():
            raise ChildFailed(await self._failure_text())
        context.spawn(self._end_with_process)

    async def on_message(self, _: EndProcess) -> None:
        self._ending = True
        await self._end()
        self._context.exit()

    async def on_stop(self) -> None:
        await self._end()
        for pipe in (self._process.stdout, self._process.stderr) if self._process is not None else ():
            if pipe is not None:
                pipe.close()

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        for how, patience_s in ((signal.SIGTERM, self._spec.grace_s), (signal.SIGKILL, _KILL_S)):
            if process.poll() is None:
                process.send_signal(how)
                with trio.move_on_after(patience_s):
                    await _wait_exit(process)

    async def _end_with_process(self) -> None:
        await self._gone.wait()
        assert self._process is not None  # noqa: S101 - the process was started
        if self._process.returncode == 0 or self._ending:
            if not self._ending:
                log.warning("a process has ended by itself, and is not started again", process=self._spec.name)
            self._context.exit()
        else:
            raise ChildFailed(await self._failure_text())

    async def _wait_gone(self, process: "subprocess.Popen[bytes]") -> None:
        await _wait_exit(process)
        self._gone.set()

    async def _read(self, pipe: IO[bytes]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        # The stream closes its descriptor, so it gets a copy.
        async with trio.lowlevel.FdStream(os.dup(pipe.fileno())) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                async for chunk in stream:
                    *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                    for line in lines:
                        self._on_line(line)
                    if len(rest) > _MAX_LINE_CHARACTERS:
                        self._on_line(rest)
                        rest = ""
        if rest:
            self._on_line(rest)
        self._readers -= 1
        if not self._readers:
            self._read_all.set()

    def _on_line(self, line: str) -> None:
        if not self._ready.is_set() and self._spec.ready(line):
            self._ready.set()
            self._spec.on_ready(line)
        elif line.strip():
            self._reason = self._spec.reason(line) or self._reason
            self._spec.on_line(line)

    async def _failure_text(self) -> str:
        assert self._process is not None  # noqa: S101 - the process was started
        with trio.move_on_after(_LAST_OUTPUT_S):
            await self._read_all.wait()
        code = self._process.returncode
        outcome = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        return f"{self._spec.name} {outcome}" + (f": {self._reason}" if self._reason else "")


async def _wait_exit(process: "subprocess.Popen[bytes]") -> None:
    """Waits until the process has ended, and reaps it."""
    if process.poll() is not None:
        return
    try:
        watch = os.pidfd_open(process.pid)
    except OSError:
        # Kernels before 5.3 and old filters of system calls refuse this, and a process may have no descriptor left.
        while process.poll() is None:  # noqa: ASYNC110 - nothing tells of the end
            await trio.sleep(_POLL_S)
        return
    try:
        await trio.lowlevel.wait_readable(watch)
    finally:
        os.close(watch)
    process.poll()


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel(reason="the process is ready or has ended")
