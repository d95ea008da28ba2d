"""Keeps what a client wrote, and keys, out of the logs. Pure.

Values under a forbidden name are dropped, at any depth. What is not a plain value is taken apart (attrs objects,
mappings, sequences) or shown by its type alone, because a `repr` may hold anything. Not looked into: the event's own
text, which is the programmer's, and the texts of exceptions, without which a log is worth little. Last, whatever looks
like an API key or a ticket is cut out of the line as it is, wherever it stands in it.
"""

import datetime as dt
import enum
import pathlib
import re
import uuid
from collections.abc import Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any

import attrs

FORBIDDEN = frozenset(
    {
        "prompt", "text", "messages", "body", "api_key", "x-api-key", "authorization", "key", "secret", "ticket",
        "credential", "digest", "headers", "query_string",
    }
)  # fmt: skip

_SECRETS = re.compile(
    # Of one of our keys the id is public, and the rest is not.
    r"(?P<id>\blla_[0-9A-Za-z]{12}_)[0-9A-Za-z_]+"
    r"|(?P<kind>\bll[at]_)[0-9A-Za-z_]{8,}"
    r"|(?P<by>\b(?:bearer|x-api-key:|[?&]ticket=|ticket=)\s*)[^\s\"'\\&,;)}\]]{6,}",
    re.IGNORECASE,
)

_PLAIN = (str, int, float, type(None), enum.Enum, pathlib.PurePath, dt.datetime, dt.timedelta, uuid.UUID)
_STRUCTLOGS_OWN = frozenset({"exc_info", "stack_info", "_record", "_from_structlog"})
_DEPTH = 8


def redact(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor."""
    return {
        key: value if key in _STRUCTLOGS_OWN else redacted(value)
        for key, value in event_dict.items()
        if key.lower() not in FORBIDDEN
    }


def scrub(line: str) -> str:
    """`line` with a … in place of each secret of a key, of a ticket, and of what follows `Bearer`."""
    return _SECRETS.sub(_cut, line)


def scrub_line(_logger: object, _method: str, line: Any) -> str:
    """The structlog processor after the renderer, whose text it gets."""
    return scrub(str(line))


def _cut(match: re.Match[str]) -> str:
    return f"{match['id'] or match['kind'] or match['by']}…"


def redacted(value: Any, depth: int = _DEPTH) -> Any:
    """`value` without what is forbidden, made of plain values, dicts and lists only."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if depth > 0:
        if attrs.has(type(value)):
            value = {field.name: getattr(value, field.name, None) for field in attrs.fields(type(value))}
        if isinstance(value, Mapping):
            return {
                str(key): redacted(item, depth - 1) for key, item in value.items() if str(key).lower() not in FORBIDDEN
            }
        if isinstance(value, (list, tuple, AbstractSet)):
            return [redacted(item, depth - 1) for item in value]
    return f"<{type(value).__name__}>"
