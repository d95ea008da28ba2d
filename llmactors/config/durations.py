"""Durations, as in `30d` or `12h`."""

import re

from llmactors.errors import ConfigError

_DURATION = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>s|min|m|h|d)")
_UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str, name: str) -> float:
    """`text` in seconds. Raises `ConfigError` that names the flag or field `name`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"`{name}` must be a number and s, m, min, h or d, as in 30d or 12h, not {text!r}")
    return float(match["count"]) * _UNITS_S[match["unit"]]
