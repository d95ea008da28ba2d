"""Reads a whole answer by the rules of the routes that it came from. Pure."""

from typing import Any

import msgspec

from llmactors.load import native, openai
from llmactors.load.answer import Answer, Malformed
from llmactors.load.frames import SocketAnswer
from llmactors.load.http1 import Body, Head
from llmactors.load.plan import Api, Plan
from llmactors.load.reading import Reading


def read(plan: Plan, answer: Answer) -> Reading:
    """Everything that a complete answer holds. Raises `Malformed` unless it is exactly right."""
    if isinstance(answer, SocketAnswer):
        return native.read_socket(plan, answer)
    raw = bytes(answer.data)
    head = Head.parse(raw)
    body = Body.of(answer, raw, head)
    if head.status != 200:
        raise _refused(head, body)
    is_stream = head.headers.get("content-type", "text/event-stream").startswith("text/event-stream")
    if is_stream != plan.streams:
        raise Malformed("not_a_stream" if plan.streams else "a_stream", str(dict(head.headers)))
    if plan.api in {Api.CHAT, Api.COMPLETIONS}:
        return (openai.read_stream if plan.streams else openai.read_whole)(plan, answer, body)
    if plan.streams:
        return native.read_stream(plan, answer, body, head.headers.get("x-request-id", ""))
    return native.read_whole(plan, answer, body)


def _refused(head: Head, body: Body) -> Malformed:
    """The class is the status; the code is the server's own, wherever servers put it."""
    code = ""
    try:
        said: Any = msgspec.json.decode(body.data)
        error = said.get("error", said) if isinstance(said, dict) else {}
        code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
    except (msgspec.DecodeError, UnicodeError):
        pass
    detail = body.data[:200].decode(errors="replace")
    return Malformed(f"http_{head.status}", detail, code=code, refusal=head.status in {429, 503, 529})
