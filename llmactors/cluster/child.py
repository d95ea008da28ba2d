"""A child process as an actor: up when the process says so, crashed when it ends, ended with the actor."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import attrs
import trio

from llmactors.actors import Actor, Context
from llmactors.cluster import parent_death
from llmactors.errors import OperatorError

_KILL_S = 5.0
_LAST_WORDS = 20
_SETTLE_S = 1.0


class ChildFailed(OperatorError):
    """A child process could not start, or ended by itself."""


@attrs.frozen(kw_only=True)
class ChildSpec:
    """What to run."""

    name: str
    command: Sequence[str]
    ready: Callable[[str], bool]
    """Whether a line of its output says that it is ready."""
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ, repr=False)
    on_ready: Callable[[str], None] = lambda _: None
    """Is given that line."""
    on_line: Callable[[str], None] = lambda _: None
    """Is given every other line that it writes."""
    grace_s: float = 5.0
    """How long it may take to end after SIGTERM."""


@attrs.frozen
class EndOrderly:
    """Ask this to have the process end by SIGTERM. Answered once it is gone; it is not started again."""


class ChildActor(Actor):
    """One process per incarnation. It ends normally with a process that ends with code 0, as after a drain."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = trio.Event()
        self._ready = trio.Event()
        self._ending = False
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)

    def __repr__(self) -> str:
        return f"<ChildActor {self._spec.name} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """None before it runs."""
        return None if self._process is None else self._process.pid

    async def on_start(self, context: Context) -> None:
        self._ref = context.ref
        self._context = context
        # From this thread, the main one, and at once: see `parent_death`. A group of its own, since Ctrl-C is for the
        # parent, who knows in which order the children have to end.
        launcher = [sys.executable, "-S", "-E", str(Path(parent_death.__file__)), str(os.getpid())]
        process = self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it takes milliseconds; our own command
            [*launcher, *self._spec.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self._spec.environ),
            process_group=0,
        )
        context.spawn(self._wait_gone, process)
        self._readers = 2
        self._read_all = trio.Event()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None  # noqa: S101 - they were asked for
            context.spawn(self._read, pipe)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_then_cancel, self._ready, nursery.cancel_scope)
            nursery.start_soon(_then_cancel, self._gone, nursery.cancel_scope)
        if not self._ready.is_set():
            raise ChildFailed(await self._obituary())
        context.spawn(self._end_with_it)

    async def on_message(self, _: EndOrderly) -> None:
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

    async def _end_with_it(self) -> None:
        await self._gone.wait()
        assert self._process is not None  # noqa: S101 - it ran
        if self._process.returncode == 0 or self._ending:
            self._context.exit()
        else:
            raise ChildFailed(await self._obituary())

    async def _wait_gone(self, process: "subprocess.Popen[bytes]") -> None:
        await _wait_exit(process)
        self._gone.set()

    async def _read(self, pipe: IO[bytes]) -> None:
        rest = ""
        # A copy of the descriptor: the stream closes its own.
        async with trio.lowlevel.FdStream(os.dup(pipe.fileno())) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                async for chunk in stream:
                    *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
                    for line in lines:
                        self._said(line)
        if rest:
            self._said(rest)
        self._readers -= 1
        if not self._readers:
            self._read_all.set()

    def _said(self, line: str) -> None:
        if not self._ready.is_set() and self._spec.ready(line):
            self._ready.set()
            self._spec.on_ready(line)
        elif line.strip():
            self._last_words.append(line)
            self._spec.on_line(line)

    async def _obituary(self) -> str:
        assert self._process is not None  # noqa: S101 - it ran
        with trio.move_on_after(_SETTLE_S):
            await self._read_all.wait()
        code = self._process.returncode
        fate = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        # Its own one line, where it had one to say.
        said = [line.partition(": ")[2] for line in self._last_words if line.startswith("llmactors: ")]
        words = said[-1] if said else (self._last_words[-1] if self._last_words else "")
        return f"{self._spec.name} {fate}" + (f": {words}" if words else "")


async def _wait_exit(process: "subprocess.Popen[bytes]") -> None:
    """Until it has ended; then it is reaped."""
    if process.poll() is not None:
        return
    watch = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(watch)
    finally:
        os.close(watch)
    process.poll()


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel(reason="that was what we waited for")
