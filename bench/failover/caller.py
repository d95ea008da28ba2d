"""One chat through a gateway, as a careful caller reads it: an error event in a stream is an error."""

import json
from collections.abc import Mapping
from typing import Any

import attrs
import httpx
import trio

from bench.failover.grading import Call, Outcome
from bench.failover.scenarios import ANSWER, PROMPT


@attrs.define
class Answer:
    """What has come of one answer."""

    text: str = ""
    model: str | None = None
    has_usage: bool = False
    error: str = ""
    is_done: bool = False
    """Whether `[DONE]` came."""

    def as_call(self, outcome: Outcome, sent_at_s: float, elapsed_s: float) -> Call:
        """The call that brought this answer."""
        return Call(
            sent_at_s=sent_at_s,
            outcome=outcome,
            elapsed_s=elapsed_s,
            is_complete=self.text == ANSWER,
            words=len(self.text.split()),
            error=self.error,
            model=self.model,
            has_usage=self.has_usage,
        )


async def call(client: httpx.AsyncClient, model: str, max_wall_s: float, began: float) -> Call:
    """Makes one call, and never raises. `began` is when the fault began, on Trio's clock."""
    sent = trio.current_time()
    answer, outcome = Answer(), Outcome.HANG
    with trio.move_on_after(max_wall_s):
        try:
            answer = await read_chat(client, model)
        except httpx.HTTPError as error:
            answer.error = f"{type(error).__name__}: {error}"
        outcome = Outcome.ERROR if answer.error else Outcome.SUCCESS
    return answer.as_call(outcome, sent - began, trio.current_time() - sent)


async def read_chat(client: httpx.AsyncClient, model: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Sends a chat, and reads its stream to the end. Raises `httpx.HTTPError` where the connection breaks."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    answer = Answer()
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        if response.status_code != 200:
            answer.error = f"{response.status_code}: {(await response.aread())[:200].decode(errors='replace')}"
            return answer
        async for line in response.aiter_lines():
            # Read to the end of the body also behind the end of the answer: httpx warns of a body that is left.
            if line == "data: [DONE]":
                answer.is_done = True
            elif line.startswith("data:") and not answer.error and not answer.is_done:
                _take(json.loads(line[5:]), answer)
    return answer


def _take(event: dict[str, Any], answer: Answer) -> None:
    if event.get("error"):
        answer.error = str(event["error"].get("message"))
        return
    answer.model = event.get("model") or answer.model
    answer.has_usage = answer.has_usage or bool(event.get("usage"))
    for choice in event.get("choices") or ():
        answer.text += (choice.get("delta") or {}).get("content") or ""
