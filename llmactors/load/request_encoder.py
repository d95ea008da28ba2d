"""The requests of a plan as bytes. Pure."""

import base64
import hashlib
from typing import Any

import msgspec

from llmactors.load.plan import Api, Plan
from llmactors.load.socket_recording import masked_text

_ENCODE = msgspec.json.Encoder().encode
PATHS = {
    Api.NATIVE: "/v1/generate",
    Api.NATIVE_JSON: "/v1/generate",
    Api.WS: "/v1/ws",
    Api.CHAT: "/v1/chat/completions",
    Api.COMPLETIONS: "/v1/completions",
}
_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class RequestEncoder:
    """Encodes the requests of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._same = _same_in_all(plan)
        self._is_socket = plan.api is Api.WS
        self._is_chat = plan.api is Api.CHAT
        self._field = "messages" if self._is_chat else "prompt"
        head = [
            f"POST {plan.target.prefix}{PATHS[plan.api]} HTTP/1.1",
            f"Host: {plan.target.authority}",
            "Content-Type: application/json",
            *_authorization(plan),
        ]
        if not plan.keep_alive:
            head.append("Connection: close")
        self._head = ("\r\n".join(head) + "\r\nContent-Length: ").encode("latin-1")

    def request(self, index: int) -> bytes:
        """The bytes of the `index`-th request: an HTTP message, or a WebSocket frame."""
        body = _ENCODE(self._body(index))
        if self._is_socket:
            return masked_text(body, index)
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def handshake(self, number: int) -> tuple[bytes, bytes]:
        """The request that opens a WebSocket, and the `Sec-WebSocket-Accept` that must come back."""
        plan = self._plan
        key = base64.b64encode(number.to_bytes(16, "big"))
        head = [
            f"GET {plan.target.prefix}{PATHS[plan.api]} HTTP/1.1",
            f"Host: {plan.target.authority}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key.decode()}",
            *_authorization(plan),
        ]
        # The RFC prescribes SHA-1.
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT, usedforsecurity=False).digest())
        return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1"), accept

    def _body(self, index: int) -> dict[str, Any]:
        prompt = self._plan.prompt_of(index)
        said = [{"role": "user", "content": prompt}] if self._is_chat else prompt
        return {**self._same, self._field: said, "seed": index}


def _same_in_all(plan: Plan) -> dict[str, Any]:
    """The fields that all requests of a plan share."""
    body: dict[str, Any] = {"max_tokens": plan.max_tokens}
    if plan.model is not None:
        body["model"] = plan.model
    if plan.api is Api.WS:
        return {"op": "generate", **body}
    body["stream"] = plan.streams
    if plan.streams and plan.api in {Api.CHAT, Api.COMPLETIONS}:
        body["stream_options"] = {"include_usage": True}
    return body


def _authorization(plan: Plan) -> list[str]:
    return [f"Authorization: Bearer {plan.key}"] if plan.key else []
