"""What was read from one whole answer."""

import attrs


@attrs.frozen
class Reading:
    """The tokens of an answer, and when they came."""

    tokens: int
    times: list[float]
    """When each piece of text was here: one per token from our own server; empty where an answer does not stream."""
    per_chunk: list[int]
    """How many of these came in each chunk of HTTP; in each read, where there are no chunks."""
