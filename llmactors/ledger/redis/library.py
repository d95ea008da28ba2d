"""Brings the ledger's functions into Redis."""

from importlib.resources import files

from llmactors.redislink import Call
from llmactors.redislink.errors import ReplyError
from llmactors.redislink.names import FunctionLibrary, lua_key_functions


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


_PARTS = ("context", "queue", "moves", "gateways", "workers", "reaper", "operators")
"""Each uses what those before it define."""

# One library, so that a request can be admitted, charged, ended and settled in one move each.
LIBRARY = FunctionLibrary.of(
    f"{lua_key_functions()}\nlocal limits = (function()\n{_read('limits.lua')}end)()\n"
    + "\n".join(_read(f"{part}.lua") for part in _PARTS)
)


async def load_library(call: Call) -> None:
    """Loads it where the server does not have it, as after a failover to a new one. Raises `ReplyError`."""
    try:
        await call("FUNCTION", "LOAD", LIBRARY.text)
    except ReplyError as error:
        if "already exists" not in error.message:
            raise
