"""Serves the files of the console. No file has a secret in it, so every caller may read them all."""

from llmactors.console.files import HEADERS, PAGE, ConsoleFile, console_files
from llmactors.errors import NotFound
from llmactors.http.exchange import Exchange


async def show_page(exchange: Exchange) -> None:
    """Answers with the page that loads the console."""
    await _send(exchange, console_files()[PAGE])


async def show_file(exchange: Exchange) -> None:
    """Answers with the file that the path names. Raises `NotFound` where the console has no such file."""
    found = console_files().get(exchange.parameters["file"])
    if found is None:
        raise NotFound("the console has no such file")
    await _send(exchange, found)


async def _send(exchange: Exchange, file: ConsoleFile) -> None:
    headers = [*HEADERS, ("etag", file.etag)]
    if _has(exchange.header(b"if-none-match"), file.etag):
        await exchange.empty(304, headers)
        return
    await exchange.begin(200, [*headers, ("content-length", str(len(file.data)))], file.content_type)
    await exchange.write(file.data, more=False)


def _has(condition: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names the ETag. Proxies that compress a file make its ETag weak: `W/"…"`."""
    if condition is None:
        return False
    return condition.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in condition.split(",")}
