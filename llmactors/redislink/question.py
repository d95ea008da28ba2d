"""One question to a server that tells where another server is, on a connection of its own."""

from typing import Any

import attrs
import trio

from llmactors.errors import LlmactorsError
from llmactors.redislink.address import Address, Endpoint
from llmactors.redislink.connection import RedisConnection
from llmactors.redislink.dial import dial
from llmactors.redislink.settings import LinkSettings


async def ask_once(
    address: Address,
    where: Endpoint,
    settings: LinkSettings,
    login: tuple[str | None, str | None],
    question: tuple[str, ...],
) -> Any:
    """The reply of the server at `where`, after a login if there is a password. Raises `LlmactorsError`."""
    connection = RedisConnection(await dial(address, where, settings), attrs.evolve(settings, ping_every_s=3600.0))
    found: Any = None
    failure: LlmactorsError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        try:
            user, password = login
            if password:
                await connection.call("AUTH", user or "default", password)
            found = await connection.call(*question)
        except LlmactorsError as error:
            failure = error
        finally:
            connection.close("the question was answered")
    if failure is not None:
        raise failure
    return found
