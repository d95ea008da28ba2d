"""The server that a load goes to. Only the look-up of its name opens a socket here."""

import ipaddress
import socket
from urllib.parse import urlsplit

import attrs

from llmactors.errors import ConfigError, Unavailable


@attrs.frozen
class Target:
    """The server that is measured."""

    host: str
    """An address, not a name: the name is looked up once, so that no look-up is measured."""
    port: int
    authority: str
    """The host and port as the URL has them, for the `Host` header."""
    prefix: str = ""
    """The part of the path before `/v1`."""

    @classmethod
    def parse(cls, url: str, *, allow_remote: bool = False) -> "Target":
        """Reads `http://HOST[:PORT][/PREFIX][/v1]`.

        Raises:
            ConfigError: The URL has another form, or names another machine without `allow_remote`.
            Unavailable: The host has no address.
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
                f"`url`: {parts.hostname} is not this machine. A load harms everybody who uses that server, and every "
                "figure includes the network; add --allow-remote if that is what you want"
            )
        authority = parts.netloc if parts.port else parts.netloc.removesuffix(":")
        return cls(host, port, authority, parts.path.rstrip("/").removesuffix("/v1").rstrip("/"))

    @property
    def url(self) -> str:
        """The URL, for people."""
        return f"http://{self.authority}{self.prefix}"


def _look_up(name: str, port: int) -> str:
    """The address of a host. Of several addresses an IPv4 one is taken, since more servers listen there."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"there is no host {name}: {error}") from error
    addresses = sorted(found, key=lambda each: each[0] is not socket.AF_INET)
    return str(addresses[0][4][0])
