"""Where a load goes. Nothing here opens a socket but the look-up of a name."""

import ipaddress
import socket
from urllib.parse import urlsplit

import attrs

from llmactors.errors import ConfigError, Unavailable


@attrs.frozen
class Target:
    """A server."""

    host: str
    """An address, no name: looked up once, so that no look-up is ever measured."""
    port: int
    authority: str
    """As the URL has it, for the `Host` header."""
    prefix: str = ""
    """What stands in the path before `/v1`."""

    @classmethod
    def parse(cls, url: str, *, allow_remote: bool = False) -> "Target":
        """Reads `http://HOST[:PORT][/PREFIX][/v1]`.

        Raises:
            ConfigError: It is not such a URL, or not on this machine and `allow_remote` was not said.
            Unavailable: There is no such host.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme == "https":
            raise ConfigError(f"`url`: {url} asks for TLS, which this client does not speak; load the server behind it")
        try:
            port = parts.port or 80
        except ValueError:
            port = -1
        if parts.scheme != "http" or not parts.hostname or port < 0 or parts.query or parts.username:
            raise ConfigError(f"`url`: {url!r} is not of the form http://HOST:PORT")
        host = _look_up(parts.hostname, port)
        if not allow_remote and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            raise ConfigError(
                f"`url`: {parts.hostname} is not this machine. A load harms whoever else uses that server, and the "
                "network becomes a part of every figure; --allow-remote says that this is wanted"
            )
        authority = parts.netloc if parts.port else parts.netloc.removesuffix(":")
        return cls(host, port, authority, parts.path.rstrip("/").removesuffix("/v1").rstrip("/"))

    @property
    def url(self) -> str:
        """For people."""
        return f"http://{self.authority}{self.prefix}"


def _look_up(name: str, port: int) -> str:
    """The address to use: where a name has several, IPv4 first, since more servers listen there."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"there is no host {name}: {error}") from error
    addresses = sorted(found, key=lambda each: each[0] is not socket.AF_INET)
    return str(addresses[0][4][0])
