"""The answer to a WebSocket's handshake that is refused."""

import msgspec

from llmactors.errors import LlmactorsError
from llmactors.http.exchange import ErrorRenderer, Header, Send, wire_headers


async def refuse_handshake(
    send: Send, error: LlmactorsError, errors: ErrorRenderer, request_id: str, headers: list[Header]
) -> None:
    """Answers the handshake of a WebSocket with an error, in HTTP."""
    data = msgspec.json.encode(errors.body(error, request_id))
    answer = [
        ("content-type", "application/json"),
        ("content-length", str(len(data))),
        *headers,
        *errors.headers(error),
    ]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": wire_headers(answer)})
    await send({"type": "websocket.http.response.body", "body": data, "more_body": False})
