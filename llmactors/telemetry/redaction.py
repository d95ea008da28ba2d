"""Keeps prompts, answers and secrets out of the logs. Pure.

A value under a forbidden name is dropped, at any depth. Attrs objects, mappings and sequences are converted to dicts
and lists; any other object is shown by its type alone, because its `repr` may hold anything. The text of the event is
the programmer's, and the text of an exception is needed to find a fault, so both are kept. At the end, everything in
the finished line that looks like an API key, a ticket or a session is cut.
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
    # The id of an API key is public; the rest of the key is secret.
    r"(?P<id>\blla_[0-9A-Za-z]{12}_)[0-9A-Za-z_]+"
    r"|(?P<kind>\bll[ast]_)[0-9A-Za-z_]{8,}"
    r"|(?P<by>\b(?:bearer|x-api-key:|[?&]ticket=|ticket=)\s*)[^\s\"'\\&,;)}\]]{6,}",
    re.IGNORECASE,
)

_PLAIN = (str, int, float, type(None), enum.Enum, pathlib.PurePath, dt.datetime, dt.timedelta, uuid.UUID)
_STRUCTLOGS_OWN = frozenset({"exc_info", "stack_info", "_record", "_from_structlog"})
_DEPTH = 8


def redact(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that drops forbidden values before a line is rendered."""
    return {
        key: value if key in _STRUCTLOGS_OWN else redacted(value)
        for key, value in event_dict.items()
        if key.lower() not in FORBIDDEN
    }


def scrub(line: str) -> str:
    """`line` with … in place of the secret part of each key, ticket and session, and of the word after `Bearer`."""
    return _SECRETS.sub(_cut, line)


def scrub_line(_logger: object, _method: str, line: Any) -> str:
    """The structlog processor that cuts secrets from a rendered line."""
    return scrub(str(line))


def _cut(match: re.Match[str]) -> str:
    return f"{match['id'] or match['kind'] or match['by']}…"


def redacted(value: Any, depth: int = _DEPTH) -> Any:
    """`value` as plain values, dicts and lists, without the values under forbidden names."""
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
