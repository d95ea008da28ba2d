"""What a proxy says of the client behind it, and which proxies are believed. Pure.

A proxy appends the address of its own client to `X-Forwarded-For`, or to `Forwarded` (RFC 7239), and passes on what the
client itself wrote there. So the list is read from its end, as far as the addresses are those of trusted proxies. The
first other address is the client's.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

import attrs

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS = 32
"""At most so many proxies in a row are believed."""
_BRACKETED = re.compile(r"\[(?P<address>[^\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"(?P<address>[0-9.]+):[0-9]{1,5}")


@attrs.frozen
class Via:
    """What a trusted proxy says of a request."""

    client: str
    """The address of the client."""
    host: str | None = None
    """The host that the client asked the proxy for; None where the proxy does not say."""


class TrustedProxies:
    """The proxies of `trusted_proxies`: addresses, and networks as in 10.0.0.0/8. Raises `ValueError` for others."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(each.strip(), strict=False) for each in trusted]

    def __repr__(self) -> str:
        return f"<TrustedProxies {', '.join(map(str, self._networks)) or 'none'}>"

    def has(self, address: str) -> bool:
        """Whether what this address says of its client is believed."""
        parsed = _address(address) if self._networks else None
        return parsed is not None and any(parsed in network for network in self._networks)

    def via(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> Via | None:
        """What `peer` says of a request with these headers; None where `peer` is not trusted."""
        if not self.has(peer):
            return None
        values: dict[bytes, list[str]] = {b"x-forwarded-for": [], b"forwarded": [], b"x-forwarded-host": []}
        for name, value in headers:
            if (lowered := name.lower()) in values:
                values[lowered].append(value.decode("latin-1"))
        pairs = [_pairs(each) for each in _last(values[b"forwarded"])]
        addresses = [pair.get("for", "") for pair in pairs] if any("for" in pair for pair in pairs) else []
        told = {self._client(peer, each) for each in (_last(values[b"x-forwarded-for"]), addresses) if each}
        hosts = [*_last(values[b"x-forwarded-host"]), *(pair["host"] for pair in pairs if "host" in pair)]
        # A proxy sets one of the headers, and a client can write the other one. Where they differ, neither is believed.
        return Via(told.pop() if len(told) == 1 else peer, hosts[-1].strip() if hosts else None)

    def _client(self, peer: str, addresses: Sequence[str]) -> str:
        client = peer
        for text in reversed(addresses):
            parsed = _address(_without_port(text.strip()))
            if parsed is None:
                break  # the proxy hides its client: the nearest known address stands for it
            client = str(parsed)
            if not self.has(client):
                break
        return client


def _address(text: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed


def _last(values: list[str]) -> list[str]:
    """The last elements of a list that may be spread over several headers."""
    return ",".join(values).rsplit(",", MAX_HOPS)[-MAX_HOPS:] if values else []


def _pairs(element: str) -> dict[str, str]:
    """One element of `Forwarded`, as in `for="[2001:db8::1]:80";host=example.com`."""
    pairs = (pair.partition("=") for pair in element.split(";", 8)[:8])
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _without_port(text: str) -> str:
    match = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    return text if match is None else match["address"]
