"""The limits of one tenant. Pure data."""

import attrs

from llmactors import errors

MOST = 10**12
"""The highest value of a bound. Numbers in Lua are doubles, which hold no much larger integers exactly."""


@attrs.frozen(kw_only=True)
class Limits:
    """The bounds on one tenant, over all gateways of a cluster. None stands for no bound.

    Raises:
        ConfigError: A bound is below 1, or above `MOST`.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Tokens of prompts and answers. An answer counts as `max_tokens` until it has ended, then as its real length."""
    tokens_per_day: int | None = None
    concurrent: int | None = None
    """Requests that are accepted and have not ended."""

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if value is not None and value < 1:
                raise errors.ConfigError(f"limits: {name} is {value}, must be at least 1")
            if value is not None and value > MOST:
                raise errors.ConfigError(
                    f"limits: {name} is {value}, must be at most {MOST}; leave it out for no limit"
                )
