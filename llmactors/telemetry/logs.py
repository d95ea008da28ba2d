"""Logs on stderr: JSON lines in production, readable lines on a terminal. No log line holds what a client wrote.

The loggers of llmactors and those of its libraries end in one handler of standard logging, which never raises into the
code that logs.
"""

import logging
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from llmactors import errors
from llmactors.telemetry.redaction import redact, scrub_line

_ROOT = "llmactors"


def configure_logging(*, json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Sets up logging for this process. A second call replaces the first.

    Args:
        json: Whether a line is one JSON object. Otherwise lines are for people, and coloured if `stream` is a terminal.
        level: The lowest level that llmactors logs: debug, info, warning, error or critical. Lines of libraries are
            shown from warning on.
        stream: Where the lines go; stderr by default.

    Raises:
        ConfigError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if not number:
        raise errors.ConfigError(f"the log level is {level!r}, and must be debug, info, warning, error or critical")
    stream = stream or sys.stderr
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
    """The logger of a module, by its `__name__`. Pass values as keywords: `log.info("claimed", slots=3)`."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


class _Handler(logging.StreamHandler[TextIO]):
    """A class of its own, so that a second `configure_logging` finds and replaces the handler."""


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    # Some libraries set the levels of their loggers themselves, and then the root's level has no effect on them.
    return record.levelno >= logging.WARNING or f"{record.name}.".startswith(f"{_ROOT}.")


def _renderers(stream: TextIO, *, json: bool) -> list[Processor]:
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
            colors=stream.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
