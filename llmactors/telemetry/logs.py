"""Logs on stderr: JSON lines in production, readable lines on a terminal. No log line holds what a client wrote.

The loggers of llmactors and those of its libraries end in one handler of standard logging, which never raises into the
code that logs. In a process that serves, the lines are queued, and the handler never blocks either.
"""

import datetime as dt
import json as jsonlib
import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from llmactors import errors
from llmactors.telemetry.redaction import redact, scrub, scrub_line
from llmactors.telemetry.standard_streams import queue_standard_streams, write_log_line

_ROOT = "llmactors"
FAILURE_PREFIX = "llmactors: "
"""The beginning of the line in which a command says why it failed."""
FAILURE_LOGGER = "llmactors.cli"
"""The `logger` of this line in a JSON log; its `level` is critical."""


def configure_logging(*, json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Sets up logging for this process. A second call replaces the first.

    Args:
        json: Whether a line is one JSON object. Otherwise lines are for people, and coloured if `stream` is a terminal.
        level: The lowest level that llmactors logs: debug, info, warning, error or critical. Lines of libraries are
            shown from warning on.
        stream: Where the lines go; by default standard error, queued where `queue_output` was called.

    Raises:
        ConfigError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if not number:
        raise errors.ConfigError(f"the log level is {level!r}, and must be debug, info, warning, error or critical")
    is_terminal = (stream or sys.stderr).isatty()
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(write_log_line if stream is None else _writer_to(stream))
    handler.addFilter(_is_ours_or_a_warning)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(json=json, coloured=is_terminal),
                scrub_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _Handler)]
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(_ROOT).setLevel(number)


_failures_are_logged = False
"""Whether the line with which a command fails is a line of the log. Before a server serves, the line is for people."""


def log_failures() -> None:
    """Makes the line with which a command fails a line of the log."""
    global _failures_are_logged  # noqa: PLW0603 - a process has one standard error
    _failures_are_logged = True


def queue_output(*, json: bool) -> None:
    """Queues all output of this process, so that no reader of the output stops the process. See `standard_streams`.

    Python's warnings and uncaught errors become log lines. With `json`, so does every other line on standard error.
    """
    if json:
        queue_standard_streams(wrap_stderr=_wrapped, tell_dropped=_json_report)
    else:
        queue_standard_streams(wrap_stderr=lambda line: f"{line}\n", tell_dropped=_text_report)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda caught: _log_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)
    sys.unraisablehook = lambda caught: _log_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module, by its `__name__`. Pass values as keywords: `log.info("claimed", slots=3)`."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


class _Handler(logging.Handler):
    """Formats records and passes each line to `write`, which must not raise. Reports a record that has no text."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - an error in a log line must not reach the code that logs
            line = _unformatted(record, error)
        self._write(f"{line}\n")


def _writer_to(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):
            return  # the stream is closed or full

    return write


def _unformatted(record: logging.LogRecord, error: Exception) -> str:
    what = f"a log line of {record.name} has no text: {type(error).__name__}"
    return _json_line(what, level="error", logger=__name__).rstrip("\n")


def _json_line(event: str, *, level: str = "warning", logger: str = "stderr", **values: object) -> str:
    now = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    found = {**values, "event": event, "level": level, "logger": logger, "timestamp": now}
    return scrub(jsonlib.dumps(found, ensure_ascii=False)) + "\n"


def _wrapped(line: str) -> str:
    """The log line for a line on `sys.stderr`. A command's own last line says why the command failed."""
    if line.startswith(FAILURE_PREFIX):
        if not _failures_are_logged:
            return f"{line}\n"
        return _json_line(line.removeprefix(FAILURE_PREFIX), level="critical", logger=FAILURE_LOGGER)
    return _json_line(line)


_DROPPED = "lines of this log were dropped, because nobody read them or the disk is full"


def _json_report(dropped: int) -> str:
    return _json_line(_DROPPED, logger=__name__, dropped=dropped)


def _text_report(dropped: int) -> str:
    return f"llmactors: {dropped} {_DROPPED}\n"


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Logs an error that nobody caught, in place of the traceback that Python prints."""
    if issubclass(kind, SystemExit):
        return
    get_logger("llmactors").error("an error was not caught", exc_info=(kind, error or kind(), trace))


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    # Some libraries set the levels of their loggers themselves, and then the root's level has no effect on them.
    return record.levelno >= logging.WARNING or f"{record.name}.".startswith(f"{_ROOT}.")


def _renderers(*, json: bool, coloured: bool) -> list[Processor]:
    # Neither form shows local variables, because these may hold prompts.
    if json:
        return [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=coloured,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
