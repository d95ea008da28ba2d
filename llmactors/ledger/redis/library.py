"""Brings the ledger's functions into Redis. Its name holds a digest of its text, so that no node calls another's."""

import hashlib
from importlib.resources import files

from llmactors.redislink import Call
from llmactors.redislink.errors import ReplyError


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


_PARTS = ("context", "queue", "moves", "gateways", "workers", "anybody", "register")
"""Each uses what those before it define."""

# One library, so that a request can be admitted, charged, ended and settled in one move each.
_TEXT = f"local limits = (function()\n{_read('limits.lua')}end)()\n" + "\n".join(
    _read(f"{part}.lua") for part in _PARTS
)
NAME = f"llmactors_{hashlib.sha256(_TEXT.encode()).hexdigest()[:8]}"

FORMAT = 1
"""Of what the functions store, and part of every key's name: nodes of two formats have two ledgers in one Redis, so
that the old ones can end what they have accepted. To be raised by any change that older nodes would read wrongly."""


def key_prefix(namespace: str) -> str:
    """Of all keys of one ledger. Its hash tag keeps them in one slot."""
    return f"llmactors:{{{namespace}}}:v{FORMAT}:"


def function_name(operation: str) -> str:
    """What to call for one operation of the contract."""
    return f"{NAME}_{operation}"


async def load_library(call: Call) -> None:
    """Loads it where the server does not have it, as after a failover to a new one. Raises `ReplyError`."""
    try:
        await call("FUNCTION", "LOAD", f"#!lua name={NAME}\n" + _TEXT.replace("@LIBRARY@", NAME))
    except ReplyError as error:
        if "already exists" not in error.message:
            raise
