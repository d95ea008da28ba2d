"""The files of the console: their headers, their ETags, and that every part that a file names is there."""

import re

import pytest

from llmactors.console.files import PAGE, console_files
from llmactors.testing.node import local_node

pytestmark = pytest.mark.integration
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "require-trusted-types-for": "'script'",
}
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


async def test_files_have_types_and_strict_headers() -> None:
    async with local_node(api_key="s3cret") as node:
        for path in ("/", *(f"/console/{name}" for name in console_files())):
            answer = await node.client.get(path)
            assert answer.status_code == 200, path
            ending = "html" if path == "/" else path.rpartition(".")[2]
            assert answer.headers["content-type"].partition(";")[0] == TYPES[ending], path
            policy = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
            assert policy.items() >= POLICY.items()
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-cache"
            assert int(answer.headers["content-length"]) == len(answer.content)


async def test_newest_copy_is_not_sent_again() -> None:
    async with local_node() as node:
        first = await node.client.get("/")
        etag = first.headers["etag"]
        for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await node.client.get("/", headers={"if-none-match": condition})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert (await node.client.get("/", headers={"if-none-match": '"other"'})).status_code == 200
        head = await node.client.head("/")
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)


async def test_no_path_leaves_the_folder_of_the_console() -> None:
    async with local_node() as node:
        for path in ("none.js", "", "../files.py", "..%2ffiles.py", "views", "views/", "/etc/passwd"):
            answer = await node.client.get(f"/console/{path}")
            assert answer.status_code == 404, path


def test_no_file_needs_an_inline_script_or_another_server() -> None:
    for name, file in console_files().items():
        text = file.data.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=|\sstyle=|javascript:", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        outside = set(re.findall(r"https?://[^\s\"'`<>)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, name


def test_each_named_file_exists() -> None:
    held = console_files()
    page = held[PAGE].data.decode()
    named = set(re.findall(r"(?:src|href)=\"/console/([^\"]+)\"", page))
    assert named
    for name, file in held.items():
        folder = name.rpartition("/")[0]
        for path in re.findall(r"^(?:import|export)[^;]*?from \"([^\"]+)\"", file.data.decode(), re.MULTILINE):
            parts = [*filter(None, folder.split("/"))]
            for part in path.split("/"):
                if part == "..":
                    parts.pop()
                elif part != ".":
                    parts.append(part)
            named.add("/".join(parts))
    assert named == set(held) - {PAGE}
