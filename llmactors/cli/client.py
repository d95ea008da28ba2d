"""The client of the commands that talk to a running node."""

import contextlib
import ipaddress
import os
import urllib.request
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

import attrs
import msgspec
import trio
from cyclopts import Parameter

from llmactors.config import URL_VARIABLE, Configuration, Settings
from llmactors.errors import ConfigError, LlmactorsError, Unavailable, from_code
from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import HttpClientError
from llmactors.http.client_socket import Origin

URL = Annotated[str, Parameter(env_var=URL_VARIABLE, help="The URL of the node.")]
NODE_URL = Annotated[
    str | None,
    Parameter(
        env_var=URL_VARIABLE,
        help="The URL of the node to ask. By default http://127.0.0.1:8000, or the cluster of the setting `redis`.",
        show_default=False,
    ),
]
"""The flag of commands that ask a node, or read a whole cluster."""
API_KEY = Annotated[
    str | None, Parameter(env_var="GATEWAY_API_KEY", help="The API key that the node asks for.", show_default=False)
]

_CA_VARIABLE = "SSL_CERT_FILE"
_CONNECT_S = 10.0
_ANSWER_S = 10.0


def node_or_cluster(configuration: Configuration, url: str | None) -> tuple[Settings, str]:
    """The settings, in which `redis` is None where the node at the returned URL is to be asked.

    A URL that was given goes before a variable or a file that names a Redis server, and not before the flag.
    """
    settings = configuration.settings
    if url is not None and not configuration.is_from_flag("redis"):
        settings = attrs.evolve(settings, redis=None)
    return settings, url or "http://127.0.0.1:8000"


def auth_headers(api_key: str | None) -> dict[str, str]:
    """The headers that show the key."""
    key = (api_key or "").strip()  # a variable that was set from a file often ends in a newline
    return {"Authorization": f"Bearer {key}"} if key else {}


def node_client(url: str, api_key: str | None) -> HttpClient:
    """A client of the node at `url`. Close it in the end. Raises `Unavailable` where the URL is malformed."""
    url = url.strip()
    try:
        return HttpClient(url, headers=[*auth_headers(api_key).items()], settings=_settings(url))
    except ValueError as error:
        raise Unavailable(f"{url} is not a URL of a node: {error}") from error


def get_json(url: str, path: str, api_key: str | None) -> object:
    """Sends one GET and returns the JSON of the answer. Raises an error of this package for anything but success."""
    return trio.run(_ask_json, "GET", url, path, api_key)


def post_json(url: str, path: str, api_key: str | None, payload: object = None) -> object:
    """As `get_json`, by a POST with `payload` as its JSON."""
    return trio.run(_ask_json, "POST", url, path, api_key, msgspec.json.encode({} if payload is None else payload))


async def _ask_json(method: str, url: str, path: str, api_key: str | None, body: bytes = b"") -> object:
    with contextlib.closing(node_client(url, api_key)) as client:
        return await ask(client, url, method, path, body)


async def ask(client: HttpClient, url: str, method: str, path: str, body: bytes = b"") -> object:
    """Asks the node at `url` by its client, and returns the JSON of the answer. Raises as `get_json`."""
    try:
        with trio.fail_after(_ANSWER_S):
            response = await client.fetch(method, path, body)
    except (HttpClientError, trio.TooSlowError) as error:
        raise no_answer(url, error) from error
    if response.status != 200:
        raise explain(url + path, response.status, response.body)
    try:
        return msgspec.json.decode(response.body)
    except msgspec.DecodeError as error:
        raise Unavailable(f"{url}{path} answered with something that is no JSON; is a llmactors node there?") from error


def no_answer(url: str, error: Exception) -> Unavailable:
    """The error for a node that cannot be reached, or that falls silent."""
    proxy = urlsplit(_proxy_for(url)).hostname
    through = f" through the proxy {proxy}" if proxy else ""
    return Unavailable(f"no node answers at {url}{through}: {str(error) or 'the node was silent for too long'}")


def explain(url: str, status: int, body: bytes) -> LlmactorsError:
    """The error that a node's error answer stands for."""
    try:
        error = msgspec.json.decode(body)["error"]
        hint = "; give the key with --api-key or GATEWAY_API_KEY" if status == HTTPStatus.UNAUTHORIZED else ""
        # Unknown routes below /v1 are answered as OpenAI does, with the code in lower case.
        return from_code(error["code"].upper(), error["message"] + hint)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unavailable(f"{url} answered with status {status}; is a llmactors node there?")


def _settings(url: str) -> ClientSettings:
    """Reads the environment's proxy and certificate authorities, unless the node is on this machine.

    Raises `ConfigError` where the environment names a proxy or a file that cannot be used.
    """
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or ""):
        return ClientSettings(connect_s=_CONNECT_S)
    proxy, ca_file = _proxy_for(url), os.environ.get(_CA_VARIABLE, "")
    variable = f"{parts.scheme.upper()}_PROXY"
    to_do = "give the proxy as http://HOST:PORT, or add the node to NO_PROXY"
    try:
        is_tls = bool(proxy) and Origin.parse(proxy).is_tls
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}; {to_do}") from error
    if is_tls:
        raise ConfigError(f"{variable}: a proxy is not asked over https; {to_do}")
    if parts.scheme == "https" and ca_file and not os.access(ca_file, os.R_OK):
        raise ConfigError(f"{_CA_VARIABLE}: the file {ca_file} cannot be read")
    return ClientSettings(connect_s=_CONNECT_S, proxy=proxy, ca_file=ca_file)


def _proxy_for(url: str) -> str:
    """The URL of the proxy that the environment names for `url`; empty where there is none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return ""
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
