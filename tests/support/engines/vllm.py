"""The routes of vLLM, as `openai/{completion,chat_completion}/serving.py` and `serve/tokenize` of its entrypoints."""

import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import attrs
import trio

from llmactors.backends.stop_strings import StopStrings
from llmactors.tool_calls.hermes import HermesParser
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content
from tests.support.engines.model import Detokenizer, Made, Rules, decode, encode, made, template
from tests.support.faulty_upstream import Hit, sse

CONTEXT = 32_768
Cut = Callable[[Hit], Awaitable[None]]


@attrs.define(eq=False)
class VllmDouble:
    """A behaviour of `FaultyUpstream`."""

    cuts: list[int] = attrs.field(factory=list)
    """After how many tokens the connection of each generation breaks; those behind the end of the list do not break."""
    step_s: float = 0.0
    per_chunk: int = 1
    """How many tokens a chunk has."""
    parses_tools: bool = True
    """Whether the server was started with `--enable-auto-tool-choice --tool-call-parser hermes`."""
    tells_ids: bool = True
    """Whether `/tokenize` is there. A proxy before the server may hide it."""
    takes_text: bool = True
    """Whether the chat route continues a message. A vendor's gateway before the server may refuse the fields."""
    shift: int = 0
    """What is added to the ids of texts, so that the server has another vocabulary."""
    asked: list[str] = attrs.field(factory=list)
    """The routes of all requests."""

    async def __call__(self, hit: Hit) -> None:
        self.asked.append(hit.target)
        match hit.target:
            case "/tokenize" if self.tells_ids:
                await self._tokenize(hit)
            case "/detokenize" if self.tells_ids:
                await reply(hit, {"prompt": decode(hit.body["tokens"])})
            case "/v1/chat/completions":
                await self._chat(hit)
            case "/v1/completions":
                await self._complete(hit)
            case _:
                await refuse(hit, 404, "Not Found")

    async def _tokenize(self, hit: Hit) -> None:
        body = hit.body
        ids = template(body["messages"], body.get("tools")) if "messages" in body else encode(body["prompt"])
        ids = [one + self.shift for one in ids]
        await reply(hit, {"count": len(ids), "max_model_len": CONTEXT, "tokens": ids, "token_strs": None})

    async def _complete(self, hit: Hit) -> None:
        body = hit.body
        prompt = body["prompt"]
        ids = encode(prompt) if isinstance(prompt, str) else prompt
        structured = body.get("structured_outputs") or {}
        if structured.keys() - {"grammar"}:
            await refuse(hit, 400, "the double knows only grammars")
            return
        rules = rules_of(body, body.get("max_tokens", 16), structured.get("grammar") or "")
        await self._stream(hit, ids, rules, _completion_choice, with_head=False)

    async def _chat(self, hit: Hit) -> None:
        body = hit.body
        continues = bool(body.get("continue_final_message"))
        if continues and (body.get("add_generation_prompt", True) or not self.takes_text):
            await refuse(hit, 400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
            return
        ids = template(body["messages"], body.get("tools"), continues=continues)
        rules = rules_of(body, body.get("max_completion_tokens") or body.get("max_tokens") or 64, "")
        if not body.get("stream"):
            count = sum(1 for _ in made(ids, rules))
            message = {"role": "assistant", "content": "x"}
            usage = {"prompt_tokens": len(ids), "completion_tokens": count, "total_tokens": len(ids) + count}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            await reply(hit, {"object": "chat.completion", "choices": [choice], "usage": usage})
            return
        parser = HermesParser("r") if body.get("tools") and self.parses_tools else None
        await self._stream(hit, ids, rules, ChatChoices(parser), with_head=True)

    async def _stream(self, hit: Hit, ids: Sequence[int], rules: Rules, choice_of: Any, *, with_head: bool) -> None:
        with_ids = bool(hit.body.get("return_token_ids"))
        cut = self.cuts.pop(0) if self.cuts else None
        await hit.head()
        if with_head:
            head = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
            await hit.data(sse(_event(hit) | head | ({"prompt_token_ids": ids} if with_ids else {})))
        count = 0
        for tokens, text, finish in self._steps(ids, rules, hit.body.get("stop") or []):
            if self.step_s:
                await trio.sleep(self.step_s)
            count += len(tokens)
            choice = choice_of(text, tokens, finish, hit.body)
            if with_ids:
                choice["token_ids"] = [one.id for one in tokens]
                if not with_head and count == len(tokens):
                    choice["prompt_token_ids"] = ids
            await hit.data(sse(_event(hit) | {"choices": [choice]}))
            if cut is not None and count >= cut:
                await hit.stream.aclose()
                return
        usage = {"prompt_tokens": len(ids), "completion_tokens": count, "total_tokens": len(ids) + count}
        if (hit.body.get("stream_options") or {}).get("include_usage"):
            await hit.data(sse(_event(hit) | {"choices": [], "usage": usage}))
        await hit.data(sse(b"[DONE]"))
        await hit.end()

    def _steps(
        self, ids: Sequence[int], rules: Rules, stops: Sequence[str]
    ) -> Iterator[tuple[list[Made], str, str | None]]:
        detokenizer, cut = Detokenizer(), StopStrings(tuple(stops))
        tokens = made(ids, rules)
        while batch := list(itertools.islice(tokens, self.per_chunk)):
            text = cut.feed("".join(detokenizer.feed(one.id) for one in batch))
            if cut.stopped:
                yield batch, text, "stop"
                return
            yield batch, text + (cut.flush() if batch[-1].finish else ""), batch[-1].finish


class ChatChoices:
    """Makes the choices of a chat's chunks."""

    def __init__(self, parser: HermesParser | None) -> None:
        self._parser = parser

    def __call__(self, text: str, tokens: Sequence[Made], finish: str | None, body: dict[str, Any]) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": text}
        if self._parser is not None:
            delta = _delta_of([*self._parser.feed(text), *(self._parser.end() if finish else [])])
            if finish == "stop" and self._parser.calls:
                finish = "tool_calls"
        logprobs = None
        if body.get("logprobs"):
            logprobs = {"content": [_chat_logprob(one) for one in tokens]}
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _delta_of(pieces: Sequence[Any]) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    for each in pieces:
        match each:
            case Content(text):
                delta["content"] = delta.get("content", "") + text
            case CallBegun(index, call_id, name):
                function = {"name": name, "arguments": ""}
                calls.append({"index": index, "id": call_id, "type": "function", "function": function})
            case CallArguments(index, text):
                calls.append({"index": index, "function": {"arguments": text}})
    return delta | ({"tool_calls": calls} if calls else {})


def _chat_logprob(one: Made) -> dict[str, Any]:
    text = f"t{one.id}"
    top = {"token": text, "logprob": one.logprob, "bytes": list(text.encode())}
    return top | {"top_logprobs": [top]}


def _completion_choice(text: str, tokens: Sequence[Made], finish: str | None, body: dict[str, Any]) -> dict[str, Any]:
    logprobs = None
    if body.get("logprobs") is not None:
        names = [f"t{one.id}" for one in tokens]
        logprobs = {
            "tokens": names,
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [{name: one.logprob} for name, one in zip(names, tokens, strict=True)],
        }
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish, "stop_reason": None}


def rules_of(body: dict[str, Any], max_tokens: int, grammar: str) -> Rules:
    """The rules of a body with OpenAI's names."""
    seed = body.get("seed") if (body.get("temperature") or 0) > 0 else None
    return Rules(max_tokens, body.get("min_tokens") or 0, bool(body.get("ignore_eos")), grammar, seed)


def _event(hit: Hit) -> dict[str, Any]:
    is_chat = hit.target.endswith("chat/completions")
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    return {"id": "cmpl-1", "object": kind, "created": 1, "model": hit.body.get("model")}


async def refuse(hit: Hit, status: int, message: str) -> None:
    """Answers with an error in vLLM's form."""
    kind = "BadRequestError" if status == 400 else "NotFoundError"
    await hit.refuse(status, error={"message": message, "type": kind, "param": None, "code": status})


async def reply(hit: Hit, body: dict[str, Any]) -> None:
    """Answers with a whole JSON object."""
    await hit.head(kind="application/json")
    await hit.data(json.dumps(body).encode())
    await hit.end()
