"""JSON for lines that others split: of server-sent events, and of what logs and shells read. Pure."""

import msgspec

_encode = msgspec.json.encode
_SEPARATORS = (("\u2028", b"\\u2028"), ("\u2029", b"\\u2029"), ("\u0085", b"\\u0085"))
"""Characters at which many readers split lines, as Python's `str.splitlines` does, though JSON and SSE do not."""
_RAW = tuple((text.encode(), escape) for text, escape in _SEPARATORS)


def encode(value: object) -> bytes:
    """`value` as JSON in which every line separator beyond ASCII is escaped."""
    return escape_separators(_encode(value))


def escape_separators(data: bytes) -> bytes:
    """`data` with every line separator beyond ASCII escaped. Such separators must be in JSON texts only.

    One call for many texts costs less than `encode` for each of them.
    """
    if not data.isascii():
        for raw, escape in _RAW:
            if raw in data:
                data = data.replace(raw, escape)
    return data
