"""`/v1/operator/session`: a cookie in place of the key of an operator, so that no script of a page holds the key.

The cookie is `HttpOnly`, so that scripts cannot read it, and `SameSite=Strict`, so that no page of another site makes a
browser send it. `App` accepts the cookie for a change only from a page of the node itself.
"""

from http.cookies import CookieError, SimpleCookie

import attrs

from llmactors import __version__
from llmactors.access.authentication import sends_key
from llmactors.access.sessions import COOKIE, LIFE_S
from llmactors.errors import LlmactorsError, Unavailable
from llmactors.gateway.body import NonEmpty
from llmactors.gateway.operating.parameters import read_body
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange, Header, Scope, client_address, header

_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Strict"


@attrs.frozen
class SessionBody:
    """The body of `POST /v1/operator/session`."""

    key: NonEmpty
    """The key of an operator."""


@attrs.frozen
class SessionState:
    """What a page needs to know before it asks for a key."""

    operator: bool
    """Whether the caller may use the routes for operators."""
    keys: bool
    """Whether the node asks for keys."""
    drills: bool
    """Whether the node serves the drills."""
    node: str
    version: str


async def show(node: OperatedNode, exchange: Exchange) -> None:
    """Says whether the caller is an operator. Everybody may ask."""
    await exchange.answer(200, _state(node, is_operator=await _is_operator(node, exchange)))


async def begin(node: OperatedNode, exchange: Exchange) -> None:
    """Begins a session of the operator with the key of the body."""
    body = await read_body(exchange, SessionBody)
    token = await node.auth.begin_session(body.key, client_address(exchange.scope))
    headers = [] if token is None else [_cookie(token, LIFE_S, exchange)]
    await exchange.answer(200, _state(node, is_operator=True), headers)


async def end(node: OperatedNode, exchange: Exchange) -> None:
    """Ends the session of the cookie, if there is one."""
    token = session_token(exchange.scope)
    if token is not None:
        await node.auth.end_session(token)
    await exchange.answer(200, _state(node, is_operator=node.auth.is_open), [_cookie("", 0, exchange)])


def session_token(scope: Scope) -> str | None:
    """The value of the session's cookie; None where there is no such cookie."""
    sent = header(scope, b"cookie")
    if sent is None or COOKIE not in sent:
        return None
    try:
        morsel = SimpleCookie(sent).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


async def _is_operator(node: OperatedNode, exchange: Exchange) -> bool:
    scope, auth = exchange.scope, node.auth
    client, token = client_address(scope), session_token(scope)
    try:
        if auth.is_open or sends_key(scope["headers"]):
            return (await auth.authenticate(scope["headers"], client)).is_operator
        return token is not None and (await auth.resume_session(token, client)).is_operator
    except Unavailable:
        raise
    except LlmactorsError:
        return False


def _state(node: OperatedNode, *, is_operator: bool) -> SessionState:
    return SessionState(is_operator, not node.auth.is_open, node.drills is not None, node.name, __version__)


def _cookie(token: str, life_s: float, exchange: Exchange) -> Header:
    # A proxy that terminates TLS passes the request on by http, and the page's origin still says https.
    origin = exchange.header(b"origin") or ""
    is_secure = exchange.scope.get("scheme") == "https" or origin.lower().startswith("https://")
    return "set-cookie", f"{COOKIE}={token}; Max-Age={round(life_s)}; {_ATTRIBUTES}{'; Secure' if is_secure else ''}"
