"""The check of a whole answer by the rules of the routes that it came from. Pure."""

from typing import Any

import msgspec

from llmactors.load import native, openai
from llmactors.load.http_recording import HttpReplay
from llmactors.load.plan import Api, Plan
from llmactors.load.recording import Malformed, Recording
from llmactors.load.socket_recording import SocketRecording
from llmactors.load.token_times import TokenTimes


def check(plan: Plan, recording: Recording) -> TokenTimes:
    """Reads everything that a complete answer holds. Raises `Malformed` unless the answer is exactly right."""
    if isinstance(recording, SocketRecording):
        return native.read_socket(plan, recording)
    replay = HttpReplay(recording)
    if replay.head.status != 200:
        raise _refused(replay)
    is_stream = replay.head.headers.get("content-type", "text/event-stream").startswith("text/event-stream")
    if is_stream != plan.streams:
        raise Malformed("not_a_stream" if plan.streams else "a_stream", str({**replay.head.headers}))
    if plan.api in {Api.CHAT, Api.COMPLETIONS}:
        return (openai.read_stream if plan.streams else openai.read_whole)(plan, recording, replay)
    return (native.read_stream if plan.streams else native.read_whole)(plan, recording, replay)


def _refused(replay: HttpReplay) -> Malformed:
    """The failure's class is the status. The failure's code is the server's own, from any field that has a code."""
    code, status, body = "", replay.head.status, replay.body
    try:
        parsed: Any = msgspec.json.decode(body)
        error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
        code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
    except (msgspec.DecodeError, UnicodeError):
        pass
    detail = body[:200].decode(errors="replace")
    return Malformed(f"http_{status}", detail, code=code, refusal=status in {429, 503, 529})
