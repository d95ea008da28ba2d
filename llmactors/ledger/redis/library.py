"""The library of the ledger's functions in Redis."""

from importlib.resources import files

from llmactors.redislink.call import Call
from llmactors.redislink.errors import ReplyError
from llmactors.redislink.names import FunctionLibrary, lua_key_functions


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


_PARTS = (
    "context",
    "queue",
    "offers",
    "affinity",
    "usage",
    "lifecycle",
    "leases",
    "claims",
    "gateways",
    "workers",
)
"""The Lua files in the order of the text. Each file uses what the files before it define."""
_LAST_PARTS = ("handing_out", "preemption", "reaper", "operators", "inspection", "sharding")
"""The files that follow. What they define is used in the same file only, so each of them is a block of its own: Lua has
at most 200 local names at a time."""

# The limits are in the same library, so that a request is admitted and charged in one step, and ended and settled.
LIBRARY = FunctionLibrary.of(
    f"{lua_key_functions()}\nlocal limits = (function()\n{_read('limits.lua')}end)()\n"
    + "\n".join(_read(f"{part}.lua") for part in _PARTS)
    + "\n".join(f"do\n{_read(f'{part}.lua')}end" for part in _LAST_PARTS)
)


async def load_library(call: Call) -> None:
    """Loads the library into a server that does not have it. Raises `ReplyError`."""
    try:
        await call("FUNCTION", "LOAD", LIBRARY.text)
    except ReplyError as error:
        if "already exists" not in error.text:
            raise
