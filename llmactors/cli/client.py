"""What the commands share that talk to a running node."""

from typing import Annotated

import httpx
from cyclopts import Parameter

from llmactors.config import URL_VARIABLE
from llmactors.errors import LlmactorsError, Unavailable, from_code

URL = Annotated[str, Parameter(env_var=URL_VARIABLE, help="Where the node is.")]
API_KEY = Annotated[str | None, Parameter(env_var="GATEWAY_API_KEY", help="The node's API key.", show_default=False)]


def auth_headers(api_key: str | None) -> dict[str, str]:
    """What shows the key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def get_json(url: str, path: str, api_key: str | None) -> object:
    """One GET. Raises an error of ours for anything but success."""
    try:
        response = httpx.get(url + path, headers=auth_headers(api_key), timeout=10)
    except httpx.TransportError as error:
        raise Unavailable(f"no node answers at {url}: {error}") from error
    except httpx.InvalidURL as error:
        raise Unavailable(f"{url} is not a URL: {error}") from error
    if response.is_error:
        raise explain(response)
    return response.json()


def explain(response: httpx.Response) -> LlmactorsError:
    """A node's error answer as the error that it stands for."""
    try:
        error = response.json()["error"]
        return from_code(error["code"], error["message"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"{response.url} answered with status {response.status_code}; is a llmactors node there?")
