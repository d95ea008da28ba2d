"""Addresses to listen on, as in `127.0.0.1:8000`."""

from llmactors.errors import ConfigError
from llmactors.http.host_names import can_be_looked_up


def parse_address(text: str, *, name: str) -> tuple[str, int]:
    """Reads `HOST:PORT` as a host without brackets and a port; `:PORT` is all hosts.

    Raises `ConfigError` that names the setting `name`.
    """
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    is_host = can_be_looked_up(bare) and not set(bare) & set("[]")
    if not colon or not is_host or not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise ConfigError(f"`{name}` must be HOST:PORT, as in 127.0.0.1:8000, not {text!r}")
    return bare or "0.0.0.0", int(port)  # noqa: S104 - where the operator writes `:8000`
