"""Logs on stderr: JSON lines in production, readable lines on a terminal. No log line holds what a client wrote.

Everything goes one way: our own loggers and those of the libraries below us end in one handler of standard logging,
which never raises into the code that logs.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from llmactors import errors
from llmactors.telemetry.redaction import redact, scrub_line

_ROOT = "llmactors"


def configure_logging(*, json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Sets up logging for this process; a second call replaces the first.

    Args:
        json: One JSON object per line; else lines for people, coloured where `stream` is a terminal.
        level: The least that llmactors logs: debug, info, warning, error or critical. Libraries log from warning on.
        stream: stderr by default.

    Raises:
        ConfigError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if not number:
        raise errors.ConfigError(f"log level {level!r}: must be debug, info, warning, error or critical")
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
    handler = _Handler(stream)
    handler.addFilter(_is_ours_or_a_warning)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(stream, json=json),
                scrub_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _Handler)]
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(_ROOT).setLevel(number)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger for a module, by `__name__`. Bind and pass values as keywords: `log.info("claimed", slots=3)`."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


@contextmanager
def bound_request_id(request_id: str) -> Iterator[None]:
    """Within it, every line of this task, and of tasks started from it, has the `request_id`."""
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        yield


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second `configure_logging` finds it."""


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    # Some libraries set their loggers' levels themselves, so the root's level does not hold them back.
    return record.levelno >= logging.WARNING or f"{record.name}.".startswith(f"{_ROOT}.")


def _renderers(stream: TextIO, *, json: bool) -> list[Processor]:
    # Neither shows local variables: they hold prompts.
    if json:
        return [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
