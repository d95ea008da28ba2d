"""The parent's end of the child process: starts it, knows when and why it died, and ends it."""

import re
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

import msgspec
import trio

from llmactors.backends.base import BackendFrozen
from llmactors.backends.llama.child import ChildConfig, ChildReport
from llmactors.errors import Conflict, ModelError

_KEPT_LINES = 50
_TERM_S = 1.0
_KILL_S = 5.0
_REAP_S = 1.0
_LOAD_ERROR = re.compile(r"error loading model: (.+)")
_LOG_PREFIX = re.compile(r"^[\d.]+ [A-Z] ")


class LlamaCrashed(RuntimeError):
    """The child process died, hangs or breaks its protocol. No request is at fault; a new backend must be started."""


class LlamaFrozen(LlamaCrashed, BackendFrozen):
    """The child process does not answer because somebody has stopped the process."""


class LlamaProcess:
    """One child process. `start` may fail or be cancelled halfway; `close` cleans up in each case."""

    def __init__(self, config: ChildConfig) -> None:
        self._config = config
        self._process: trio.Process | None = None
        self._log: deque[str] = deque(maxlen=_KEPT_LINES)
        self._log_ended = trio.Event()

    def __repr__(self) -> str:
        return f"<LlamaProcess {self._process}>"

    @property
    def pid(self) -> int | None:
        """None before `start`."""
        return self._process.pid if self._process is not None else None

    def kill(self) -> None:
        """Kills the child process. Raises `Conflict` where none runs."""
        if self._process is None or self._process.returncode is not None:
            raise Conflict("the model has no running process now")
        self._process.kill()

    async def start(self) -> str:
        """Starts the child and returns its base URL once the model is loaded.

        Raises:
            ModelError: xllamacpp is missing, or the model cannot be loaded.
        """
        with trio.CancelScope(shield=True):  # a cancel here would leave a child that nothing can end; forking is quick
            process = self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "llmactors.backends.llama.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert process.stdin is not None  # noqa: S101 - they are pipes; for mypy
        assert process.stdout is not None  # noqa: S101
        # A system task, since it outlives `start` and has no nursery to be in: a full pipe would stop the child.
        trio.lowlevel.spawn_system_task(self._keep_log, process)
        said = b""
        try:
            await process.stdin.send_all(msgspec.json.encode(self._config) + b"\n")
            async for chunk in process.stdout:
                said += chunk
            report = msgspec.json.decode(said, type=ChildReport)
        except (trio.BrokenResourceError, msgspec.DecodeError):
            report = ChildReport(error=await self.obituary())
        if report.missing:
            raise ModelError(f"llama.cpp is not installed ({report.error}): pip install 'llmactors[llama]'")
        if report.error:
            await self._settle()
            raise ModelError(f"llama.cpp cannot load this model: {self._why() or report.error}")
        return report.address

    def check_nowait(self) -> None:
        """Raises `LlamaCrashed` once the child has died."""
        if self._process is None or self._process.returncode is not None:
            raise LlamaCrashed(self._epitaph())

    def hang(self, seen: str) -> LlamaCrashed:
        """The error for a child that does nothing; `seen` says how that was seen."""
        if self._process is not None and _is_stopped(self._process.pid):
            return LlamaFrozen(f"{seen}: its process was stopped, as SIGSTOP does")
        return LlamaCrashed(f"{seen}: it hangs")

    async def obituary(self) -> str:
        """Says why the child ended, after its connection broke. Waits a little, since the exit follows the break."""
        await self._settle()
        return self._epitaph()

    async def close(self) -> None:
        """Ends the child and reaps it. Takes a few seconds at most, also when it is cancelled."""
        process = self._process
        if process is None:
            return
        with trio.CancelScope(shield=True):
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()
            for how, patience_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
                if process.returncode is None:
                    process.send_signal(how)
                    with trio.move_on_after(patience_s):
                        await process.wait()
            with trio.move_on_after(_REAP_S):
                await self._log_ended.wait()

    async def _settle(self) -> None:
        if self._process is not None:
            with trio.move_on_after(_REAP_S):
                await self._process.wait()
                await self._log_ended.wait()

    async def _keep_log(self, process: trio.Process) -> None:
        rest = ""
        try:
            if process.stderr is not None:
                async with process.stderr as stream:
                    async for chunk in stream:
                        *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
                        self._log.extend(line for line in lines if line.strip())
        except trio.BrokenResourceError:
            pass  # as good as an end
        finally:
            if rest.strip():
                self._log.append(rest)
            self._log_ended.set()

    def _why(self) -> str:
        """The line of the log that best explains the end of the child; empty where the log is empty."""
        reasons = (found[1] for line in self._log if (found := _LOAD_ERROR.search(line)))
        return next(reasons, _LOG_PREFIX.sub("", self._log[-1]) if self._log else "")

    def _epitaph(self) -> str:
        code = None if self._process is None else self._process.returncode
        if code is None:
            fate = "broke its connection, but lives" if self._process is not None else "was never started"
        elif code < 0:
            fate = f"was killed by {_signal_name(-code)}"
        else:
            fate = f"exited with code {code}"
        why = self._why()
        return f"llama.cpp's process {fate}" + (f"; its last words: {why}" if why else "")


def _is_stopped(pid: int) -> bool:
    """Whether Linux shows the process as stopped or traced; elsewhere nothing is known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
