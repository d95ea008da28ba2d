"""What one tenant may use. Pure data."""

import attrs

from llmactors import errors

MOST = 10**12
"""What a bound can be. More is none, and would not go through Lua, whose numbers are doubles."""


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds on one tenant, over all gateways of a cluster. None: no such bound.

    Raises:
        ConfigError: A bound is below 1, or above `MOST`.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Tokens of prompts and answers. An answer counts as `max_tokens` until it has ended, then as what it was."""
    tokens_per_day: int | None = None
    concurrent: int | None = None
    """Requests that have been accepted and have not ended."""

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if value is not None and value < 1:
                raise errors.ConfigError(f"limits: {name} is {value}, must be at least 1")
            if value is not None and value > MOST:
                raise errors.ConfigError(
                    f"limits: {name} is {value}, must be at most {MOST}; leave it out for no limit"
                )
