"""Commands that run until a signal: logging, signals, and the garbage collector."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, Protocol

import structlog
import trio

from llmactors.actors import Tree
from llmactors.config import Configuration, LiveSettings, Settings
from llmactors.errors import ConfigError
from llmactors.system.calm_collector import calm_garbage_collector
from llmactors.system.reloading import reload_settings
from llmactors.system.running_clock import RunningClock
from llmactors.telemetry import configure_logging, log_failures, queue_output
from llmactors.telemetry.standard_streams import flush_standard_streams

FAULT = 70
"""The exit code of a process that ends because of a fault of its own."""
_LAST_LINES_S = 0.2

log = structlog.get_logger("llmactors")


class Runnable(Protocol):
    """A node, or a cluster of them."""

    tree: Tree

    @property
    def ends_within_s(self) -> float:
        """The time that a shutdown in order may take, in seconds."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...

    async def shut_down(self) -> None: ...


class Reloadable(Runnable, Protocol):
    """A node whose settings can change while it runs."""

    live: LiveSettings


def set_up_logging(settings: Settings) -> None:
    """Sends logs to standard error, in the form and from the level that `settings` say."""
    configure_logging(json=logs_are_json(settings), level=settings.log_level)


def set_up_output(settings: Settings) -> None:
    """As `set_up_logging`, for a command that serves: no reader of its output may stop or end the process."""
    queue_output(json=logs_are_json(settings))
    if settings.log_format == "json":
        log_failures()
    set_up_logging(settings)


def logs_are_json(settings: Settings) -> bool:
    """Whether the lines on standard error are JSON objects."""
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())


def run_node(node: Reloadable, configuration: Configuration, say_ready: Callable[[], None]) -> None:
    """As `run_until_signal`, for a node whose settings come from `configuration`.

    In a process that was started without a terminal, as service managers do, SIGHUP reloads the settings.
    """
    node.live.reread = configuration.reread
    node.live.on_change(["log_level"], set_up_logging)
    run_until_signal(node, say_ready, reload=None if _has_terminal() else lambda: _reload(node.live))


def _reload(live: LiveSettings) -> None:
    with contextlib.suppress(ConfigError):  # the log says why
        reload_settings(live)


def _has_terminal() -> bool:
    """Whether a terminal controls this process: when the terminal is closed, the process gets SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def run_until_signal(
    node: Runnable, say_ready: Callable[[], None], *, reload: Callable[[], None] | None = None
) -> None:
    """Runs `node` in Trio, and calls `say_ready` once the node is ready.

    SIGINT, SIGTERM or SIGHUP shuts the node down in order. A second SIGINT or SIGTERM ends the process at once, and so
    does a shutdown that takes far longer than it may. With `reload`, SIGHUP calls that function instead.
    """
    take_back_signals()
    for number in (signal.SIGTTOU, signal.SIGTTIN):
        # A process in the background would be stopped when it writes to some terminals.
        signal.signal(number, signal.SIG_IGN)
    trio.run(_run, node, say_ready, reload, clock=RunningClock())


def take_back_signals() -> None:
    """Undoes what a parent can hand down: blocked signals, of which the process would never hear, and an ignored
    SIGCHLD, with which nobody learns how a child process ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


async def _run(node: Runnable, say_ready: Callable[[], None], reload: Callable[[], None] | None) -> None:
    must_end = trio.Event()
    with trio.CancelScope(shield=True) as watch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_late_process, node, must_end)
            try:
                # An error or an interrupt cancels the node, but not the task that bounds the time of the node's end.
                await _serve(node, say_ready, reload, must_end)
            finally:
                watch.cancel(reason="the node has ended")


async def _serve(
    node: Runnable, say_ready: Callable[[], None], reload: Callable[[], None] | None, must_end: trio.Event
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey_signals, node, reload, must_end)
        async with trio.open_nursery() as running:
            await running.start(node.run)
            calm_garbage_collector()
            log_failures()
            say_ready()
        nursery.cancel_scope.cancel(reason="the node has ended")


async def _obey_signals(node: Runnable, reload: Callable[[], None] | None, must_end: trio.Event) -> None:
    """Shuts `node` down at the first signal, and ends the process at the second, unless that is SIGHUP.

    With `reload`, SIGHUP calls that function, and shuts nothing down.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` has it ignored
        numbers.append(signal.SIGHUP)
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(*numbers) as signals:
            shutting_down, asked = False, False
            async for number in signals:
                if number == signal.SIGHUP and reload is not None:
                    reload()
                    continue
                if asked and number != signal.SIGHUP:
                    # Child processes end by themselves when this process is gone.
                    end_process(128 + number)
                # A terminal that closes can send SIGHUP twice, and a service manager sends SIGTERM and SIGHUP together.
                asked = asked or number != signal.SIGHUP
                if not shutting_down:
                    shutting_down = True
                    log.info("shutting down", signal=signal.Signals(number).name)
                    nursery.start_soon(_shut_down, node, must_end)


async def _shut_down(node: Runnable, must_end: trio.Event) -> None:
    try:
        await node.shut_down()
    finally:
        must_end.set()


async def _end_late_process(node: Runnable, must_end: trio.Event) -> None:
    """Ends the process where the tree does not end in time after a shutdown, or after an error that ends everything."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set_after, node.tree.doomed, must_end)
        await must_end.wait()
        await trio.sleep(node.ends_within_s)
        left = [actor.path for actor in node.tree.actors() if actor.state != "stopped"]
        log.critical("the process ends at once, because actors do not stop", actors=left)
        end_process(FAULT)


async def _set_after(first: trio.Event, then: trio.Event) -> None:
    await first.wait()
    then.set()


def end_process(code: int) -> NoReturn:
    """Ends the process at once, with no cleanup but the last lines of the log."""
    flush_standard_streams(_LAST_LINES_S)
    os._exit(code)
