"""The tokens of one complete answer, and when they came."""

import attrs


@attrs.frozen
class TokenTimes:
    """How many tokens an answer had, and when they came."""

    tokens: int
    times: list[float]
    """When each piece of text came: one per token from this project's server; empty where the answer did not stream."""
    per_chunk: list[int]
    """How many pieces of text each chunk of HTTP held; each read, where there are no chunks."""
