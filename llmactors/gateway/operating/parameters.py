"""Reads the queries and bodies of the routes for operators."""

from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

import msgspec

from llmactors.errors import InvalidRequest
from llmactors.gateway.body import convert, parse_object
from llmactors.http.exchange import Exchange

T = TypeVar("T")

MAX_ROWS = 500
"""The most rows of an answer."""
MAX_BODY_BYTES = 16_384
_BODY_S = 10.0
_MAX_PARAMETERS = 16

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)]


def read_query(exchange: Exchange, kind: type[T]) -> T:
    """The parameters of the query as a `kind`. Raises `InvalidRequest` that names the first wrong parameter."""
    try:
        pairs = parse_qsl(
            exchange.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        raise InvalidRequest(f"the query has more than {_MAX_PARAMETERS} parameters, or is not valid UTF-8") from None
    given = dict(pairs)
    found = convert(given, kind, strict=False)
    for name, value in given.items():
        # A text is read as what it stands for, and `null` would stand for a parameter that is not there.
        if getattr(found, name, given) is None:
            raise InvalidRequest(f"`{name}`: leave the parameter out, or give it a value other than {value!r}")
    return found


async def read_body(exchange: Exchange, kind: type[T]) -> T:
    """The JSON body as a `kind`. Raises as `Exchange.body`, or `InvalidRequest`."""
    data = await exchange.body(max_bytes=MAX_BODY_BYTES, within_s=_BODY_S)
    return convert(parse_object(data), kind)
