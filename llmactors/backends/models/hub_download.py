"""Downloads a model file from the Hugging Face hub. A download goes on where an earlier attempt stopped."""

import ipaddress
import os
import re
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import httpx
import msgspec

from llmactors.backends.models.catalog import HubSource
from llmactors.errors import ModelError

_HUB = "https://huggingface.co"
_TIMEOUT_S = 30.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Tell = Callable[[int, int | None], None]


class _PartState(msgspec.Struct, frozen=True):
    etag: str
    """The ETag of the file that the part belongs to. Bytes of another file must not be appended to the part."""


def fetch_from_hub(source: HubSource, part: Path, progress: _Tell) -> str | None:
    """Completes `part`, and returns the sha256 of the file; None where the hub names none.

    A broken connection is made again at once, as long as each connection brings some bytes.

    Raises:
        ModelError: There is no such file, no access, or no network.
    """
    endpoint = (os.environ.get("HF_ENDPOINT", "").strip() or _HUB).rstrip("/")
    url = f"{endpoint}/{source.owner}/{source.repo}/resolve/main/{source.file}"
    token = os.environ.get("HF_TOKEN", "").strip()  # a variable that was set from a file often ends in a newline
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with _client(headers) as client:
        while True:
            before = _size(part)
            try:
                return _attempt(client, url, source, part, progress)
            except httpx.TransportError as error:
                if _size(part) > before:
                    continue
                raise ModelError(
                    f"{source} cannot be downloaded from {endpoint}: {str(error) or type(error).__name__};"
                    " check the network and try again; the download goes on where it stopped",
                ) from error


def _client(headers: dict[str, str]) -> httpx.Client:
    """A client that uses the proxies and certificates of the environment. Raises `ModelError` where these are wrong."""
    try:
        # With a transport of its own, httpx does not read `NO_PROXY`, of which httpx refuses `[::1]`.
        transport, mounts = httpx.HTTPTransport(), _proxies(urllib.request.getproxies())
        return httpx.Client(
            headers=headers, follow_redirects=True, timeout=_TIMEOUT_S, transport=transport, mounts=mounts
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        raise ModelError(
            f"the environment names a proxy or certificates that cannot be used ({error}): check HTTP_PROXY, "
            "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
        ) from error


def _proxies(environment: dict[str, str]) -> dict[str, httpx.HTTPTransport | None]:
    """The transports by pattern of URL, from the proxies by scheme; `no` lists the hosts that are asked directly."""
    direct = [name.strip().strip("[]") for name in environment.get("no", "").split(",") if name.strip()]
    if "*" in direct:
        return {}
    found: dict[str, httpx.HTTPTransport | None] = {}
    for scheme in ("http", "https", "all"):
        if proxy := environment.get(scheme):
            found[f"{scheme}://"] = httpx.HTTPTransport(proxy=proxy if "://" in proxy else f"http://{proxy}")
    for name in direct:
        if name.count(":") > 1:
            found[f"all://[{name}]"] = None
        elif _is_address(name) or name == "localhost":
            found[f"all://{name}"] = None
        else:
            found[f"all://*{name.removeprefix('*')}"] = None
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _attempt(client: httpx.Client, url: str, source: HubSource, part: Path, progress: _Tell) -> str | None:
    begun = _resumable(part)
    # No compression: a range counts the bytes as they are sent, and weights do not compress well.
    headers = {"Accept-Encoding": "identity"}
    if begun is not None:
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": begun.etag}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # The part is as long as the file: an earlier attempt got everything, and the checksum decides.
            if response.headers.get("Content-Range") != f"bytes */{_size(part)}":
                part.unlink()
                raise httpx.RemoteProtocolError("the part that was downloaded earlier does not belong to this file")
        else:
            _raise_for(response, source)
            _append(response, part, progress)
        return _sha256_of(response)


def _append(response: httpx.Response, part: Path, progress: _Tell) -> None:
    done = 0
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        done = int(found[1]) if found else -1
        if done != _size(part):
            part.unlink()
            raise httpx.RemoteProtocolError("the server sent another range than was asked for")
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdigit() else None
    with part.open("ab" if done else "wb") as file:
        if not done:
            _state_of(part).write_bytes(msgspec.json.encode(_PartState(response.headers.get("ETag", ""))))
        for chunk in response.iter_raw():
            file.write(chunk)
            done += len(chunk)
            progress(done, total)


def _resumable(part: Path) -> _PartState | None:
    try:
        state = msgspec.json.decode(_state_of(part).read_bytes(), type=_PartState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    # A weak ETag does not promise the same bytes (RFC 9110, 13.1.5).
    return state if state.etag.startswith('"') and _size(part) else None


def _sha256_of(response: httpx.Response) -> str | None:
    for one in (*response.history, response):
        etag = one.headers.get("X-Linked-Etag", "").strip('"')
        if _SHA256.fullmatch(etag):
            return str(etag)
    return None


def _raise_for(response: httpx.Response, source: HubSource) -> None:
    status = response.status_code
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ModelError(
            f"the hub refuses {source}: check the spelling; a gated model needs a token in HF_TOKEN that may read it"
        )
    if status == HTTPStatus.NOT_FOUND:
        raise ModelError(f"the hub has no {source}: check owner, repository and file name")
    if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise ModelError(f"the hub answered {status} for {source}; try again later")


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0
