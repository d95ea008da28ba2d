"""Rates, as in `60/min`."""

import re

from llmactors.errors import ConfigError

_RATE = re.compile(r"(?P<requests>[1-9][0-9]{0,8})/(?P<period>s|min|m|h|[0-9]+(?:\.[0-9]+)?s)")
_PERIODS_S = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_MAX_S = 10**9


def parse_rate(text: str | None) -> tuple[int, float] | None:
    """`COUNT/PERIOD` as (requests, seconds); None for None. Raises `ConfigError`."""
    if text is None:
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"`rate_limit` must be COUNT/PERIOD, as in 60/min, 5/s, 1000/h or 100/10s, not {text!r}")
    period = match["period"]
    seconds = _PERIODS_S.get(period) or float(period[:-1])
    if not 0 < seconds <= _MAX_S:
        raise ConfigError(f"`rate_limit` must have a period above 0 and of at most {_MAX_S} s, not {text!r}")
    return int(match["requests"]), seconds
