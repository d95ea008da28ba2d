"""A provider with OpenAI's API on a real socket, whose model's name chooses what goes wrong."""

import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio

from bench.failover.profiles import Profile
from bench.failover.scenarios import (
    ANSWER,
    CUT_AFTER,
    MALFORMED_AT,
    NO_RESPONSE_S,
    OK_WITHOUT_PREFILL,
    OUTAGE_S,
    RETRY_AFTER_S,
    SLOW_FIRST_S,
    STALL_AFTER,
    STALL_S,
)

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
_CLOSES = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.define(eq=False)
class Attempt:
    """One request that reached the provider."""

    model: str
    at_s: float
    """On Trio's clock."""
    port: int
    """The port from which the request came."""
    action: str = ""
    """What the provider did."""
    is_answered: bool = False


@attrs.define(eq=False)
class Provider:
    """The provider. The attempts of each model are counted from `forget` on."""

    profile: Profile
    url: str = ""
    attempts: list[Attempt] = attrs.field(factory=list)
    _counts: Counter[str] = attrs.field(factory=Counter)
    _forgotten_at: dict[str, float] = attrs.field(factory=dict)

    def forget(self, model: str) -> float:
        """Begins the fault of a model anew, and returns the time."""
        self._counts[model] = 0
        self._forgotten_at[model] = trio.current_time()
        return self._forgotten_at[model]

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection."""
        held = b""
        with contextlib.suppress(*_CLOSES):
            async with stream:
                while True:
                    request, held = await _read(stream, held)
                    if request is None or not await self._answer(stream, request):
                        return

    async def _answer(self, stream: trio.SocketStream, request: dict[str, Any]) -> bool:
        """Answers one request; False where the connection ends with it."""
        model = str(request.get("model"))
        attempt = Attempt(model, trio.current_time(), stream.socket.getpeername()[1])
        if not request:  # a gateway asks for the list of models, to see whether the provider is there
            return await _refuse(stream, attempt, 404, "not_found")
        self._counts[model] += 1
        self.attempts.append(attempt)
        last = (request.get("messages") or [{}])[-1]
        begun = str(last.get("content") or "").strip() if last.get("role") == "assistant" else ""
        fault = model.split("-")[1] if model.startswith("fb-") else "unknown"
        if fault in {"s05", "s06"} and await self._breaks_off(stream, attempt, fault):
            return False
        refusal = self._refusal(fault, attempt, prefills=last.get("role") == "assistant")
        if refusal is not None:
            wait_s = self.profile.scaled(RETRY_AFTER_S) if fault == "s01" else None
            return await _refuse(stream, attempt, *refusal, retry_after_s=wait_s)
        goes_on = bool(begun) and ANSWER.startswith(begun)
        words = (ANSWER[len(begun) :] if goes_on else ANSWER).split()
        if not request.get("stream"):
            return await _answer_whole(stream, attempt, words)
        return await self._stream(stream, attempt, words, fault, goes_on=goes_on)

    async def _breaks_off(self, stream: trio.SocketStream, attempt: Attempt, fault: str) -> bool:
        """Whether a request gets no response at all."""
        if fault == "s06":
            attempt.action = "silent"
            await _wait(stream, self.profile.scaled(NO_RESPONSE_S))
        elif self._counts[attempt.model] == 1:
            attempt.action = "reset"
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            return False
        return True

    def _refusal(self, fault: str, attempt: Attempt, *, prefills: bool) -> tuple[int, str] | None:
        """The status and the code with which a request is refused; None where the request is answered."""
        is_first = self._counts[attempt.model] == 1
        since_s = attempt.at_s - self._forgotten_at.get(attempt.model, attempt.at_s)
        refusals = {
            "unknown": (404, "model_not_found"),
            "s02": (429, "rate_limit_exceeded"),
            "s04": (503, "overloaded"),
            "s12": (400, "context_length_exceeded"),
            "s13": (400, "content_policy_violation"),
            "s16": (503, "overloaded"),
        }
        if is_first:
            refusals |= {"s01": (429, "rate_limit_exceeded"), "s03": (500, "server_error")}
        if since_s < self.profile.scaled_outage(OUTAGE_S):
            refusals["s15"] = (503, "overloaded")
        if prefills and attempt.model.startswith(OK_WITHOUT_PREFILL):
            refusals["ok"] = (400, "invalid_prefill")
        return refusals.get(fault)

    async def _stream(
        self, stream: trio.SocketStream, attempt: Attempt, words: list[str], fault: str, *, goes_on: bool
    ) -> bool:
        profile = self.profile
        await stream.send_all(_head(200, "text/event-stream", "Transfer-Encoding: chunked"))
        if fault == "s07":
            await _wait(stream, profile.scaled(SLOW_FIRST_S))
        await stream.send_all(_event(attempt.model, {"role": "assistant", "content": ""}))
        for place, word in enumerate(words):
            if fault in {"s08", "s14"} and place == CUT_AFTER:
                attempt.action = "cut"
                return False
            if fault == "s09" and place == STALL_AFTER:
                attempt.action = "stalled"
                await _wait(stream, profile.scaled(STALL_S))
                return False
            if fault == "s10" and place == MALFORMED_AT:
                await stream.send_all(_chunk(b'data: {"id":"1","choices":[{"delta":{"content":\n\n'))
            text = word if place == 0 and not goes_on else f" {word}"
            await stream.send_all(_event(attempt.model, {"content": text}))
            await trio.sleep(profile.token_s)
        await stream.send_all(_event(attempt.model, {}, finish="stop"))
        await stream.send_all(_event(attempt.model, None, usage=_usage(words)))
        if fault != "s11":
            await stream.send_all(_chunk(b"data: [DONE]\n\n"))
        await stream.send_all(b"0\r\n\r\n")
        attempt.action, attempt.is_answered = attempt.action or "answered", True
        return True


def _head(status: int, kind: str, *lines: str) -> bytes:
    reason = _REASONS.get(status, "Error")
    return "\r\n".join((f"HTTP/1.1 {status} {reason}", f"Content-Type: {kind}", *lines, "", "")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _usage(words: list[str]) -> dict[str, int]:
    return {"prompt_tokens": 21, "completion_tokens": len(words), "total_tokens": 21 + len(words)}


def _event(model: str, delta: object, *, finish: str | None = None, usage: object = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}
    return _chunk(b"data: " + json.dumps(body if usage is None else body | {"usage": usage}).encode() + b"\n\n")


async def _answer_whole(stream: trio.SocketStream, attempt: Attempt, words: list[str]) -> bool:
    message = {"role": "assistant", "content": " ".join(words)}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": attempt.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(words),
    }
    raw = json.dumps(body).encode()
    await stream.send_all(_head(200, "application/json", f"Content-Length: {len(raw)}") + raw)
    attempt.action, attempt.is_answered = "answered", True
    return True


async def _refuse(
    stream: trio.SocketStream,
    attempt: Attempt,
    status: int,
    code: str,
    *,
    retry_after_s: float | None = None,
) -> bool:
    attempt.action = f"{status} {code}"
    kind = "invalid_request_error" if status == 400 else "server_error"
    error = {"message": f"refused: {code}", "type": kind, "param": None, "code": code}
    raw = json.dumps({"error": error}).encode()
    lines = [f"Content-Length: {len(raw)}"]
    if retry_after_s is not None:
        lines.append(f"Retry-After: {retry_after_s:g}")
    await stream.send_all(_head(status, "application/json", *lines) + raw)
    return True


async def _wait(stream: trio.SocketStream, seconds: float) -> None:
    """Waits, or until the gateway hangs up. Raises `trio.BrokenResourceError` then."""
    with trio.move_on_after(seconds):
        if not await stream.receive_some(1):
            raise trio.BrokenResourceError


async def _read(stream: trio.SocketStream, held: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """The body of the next request, and what came behind it; None at the end of the connection."""
    while b"\r\n\r\n" not in held:
        data = await stream.receive_some(65536)
        if not data:
            return None, b""
        held += data
    head, _, rest = held.partition(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(rest) < length:
        data = await stream.receive_some(65536)
        if not data:
            return None, b""
        rest += data
    return json.loads(rest[:length] or b"{}"), rest[length:]


@contextlib.asynccontextmanager
async def running_provider(profile: Profile) -> AsyncIterator[Provider]:
    """Serves until the block ends."""
    provider = Provider(profile)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        provider.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.start_soon(trio.serve_listeners, provider.serve, listeners)
        yield provider
        nursery.cancel_scope.cancel(reason="the faults are over")
