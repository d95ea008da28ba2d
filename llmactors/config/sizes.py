"""Sizes of memory, as in `2GiB`."""

import re

from llmactors.errors import ConfigError

_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?P<unit>[kmgt]?i?b?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
MAX_BYTES = 2**50


def parse_size(text: str | int, name: str) -> int:
    """A number of bytes, as in `512MiB`, `2GiB`, `1.5GB` or `1073741824`. `name` is the setting's, for the error.

    Raises:
        ConfigError: The text is no size, or the size is 0 or above a pebibyte.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is not None:
        unit = match["unit"].lower()
        base = 1024 if "i" in unit else 1000
        found = int(float(match["number"]) * base ** _POWERS[unit.rstrip("b").rstrip("i")])
        if 0 < found <= MAX_BYTES:
            return found
    raise ConfigError(f"`{name}` must be a size, as in 512MiB, 2GiB or 1.5GB, not {text!r}")


def check_memory(text: str) -> None:
    """For `model_memory`."""
    parse_size(text, "model_memory")
