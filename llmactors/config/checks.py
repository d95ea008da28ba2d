"""Checks of values whose types do not say everything. Each raises `ConfigError` that names the setting."""

import ipaddress
import re

from llmactors.errors import ConfigError

_ORIGIN = re.compile(r"file://|[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|[^:\[\]/?#@*\s]+)(?::[0-9]+)?")


def check_models(models: tuple[str, ...]) -> None:
    """For `model`."""
    if not models or not all(map(str.strip, models)):
        raise ConfigError("`model` must name at least one model, and no name may be empty")


def check_origins(origins: tuple[str, ...]) -> None:
    """For `allowed_origins`."""
    for origin in origins:
        if origin not in {"*", "null"} and not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"`allowed_origins` must be origins, as in https://app.example.com, or null, or *, not {origin!r}"
            )


def check_hosts(hosts: tuple[str, ...]) -> None:
    """For `allowed_hosts`."""
    for host in hosts:
        if host != "*" and not _HOST.fullmatch(host):
            raise ConfigError(f"`allowed_hosts` must be host names, as in llm.example.com, or *, not {host!r}")


def check_proxies(proxies: tuple[str, ...]) -> None:
    """For `trusted_proxies`."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy.strip(), strict=False)
        except ValueError:
            raise ConfigError(
                f"`trusted_proxies` must be IP addresses, or networks as in 10.0.0.0/8, not {proxy!r}"
            ) from None
