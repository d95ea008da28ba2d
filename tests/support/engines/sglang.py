"""SGLang's routes, as its `http_server.py`, `entrypoints/openai` and `managers/tokenizer_manager.py` have them."""

import json
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from llmactors.tool_calls.hermes import HermesParser
from tests.support.engines.model import Detokenizer, Made, Rules, decode, encode, made, template
from tests.support.engines.vllm import ChatChoices, reply, rules_of
from tests.support.faulty_upstream import Hit, sse


@attrs.define(eq=False)
class SglangDouble:
    """A behaviour of `FaultyUpstream`."""

    cuts: list[int] = attrs.field(factory=list)
    """After how many tokens the connection of each generation breaks; those behind the end of the list do not break."""
    step_s: float = 0.0
    incremental: bool = False
    """Whether the server was started with `--incremental-streaming-output`."""
    reasoning_parser: str | None = None
    tells_ids: bool = True
    """Whether `/v1/tokenize` takes chats, as newer releases do."""
    shift: int = 0
    """What is added to the ids of texts, so that the server has another vocabulary."""
    asked: list[str] = attrs.field(factory=list)
    """The routes of all requests."""

    async def __call__(self, hit: Hit) -> None:
        self.asked.append(hit.target)
        match hit.target:
            case "/v1/tokenize":
                await self._tokenize(hit)
            case "/v1/detokenize":
                await reply(hit, {"text": decode(hit.body["tokens"])})
            case "/get_server_info":
                await reply(hit, {"reasoning_parser": self.reasoning_parser, "tool_call_parser": "qwen25"})
            case "/v1/chat/completions":
                await self._chat(hit)
            case "/generate":
                await self._generate(hit)
            case _:
                await refuse(hit, 404, "Not Found")

    async def _tokenize(self, hit: Hit) -> None:
        body = hit.body
        if "messages" in body and not self.tells_ids:
            await refuse(hit, 400, "Exactly one of 'prompt' or 'messages' must be provided.")
            return
        ids = template(body["messages"], body.get("tools")) if "messages" in body else encode(body["prompt"])
        ids = [one + self.shift for one in ids]
        await reply(hit, {"tokens": ids, "count": len(ids), "max_model_len": 32_768})

    async def _generate(self, hit: Hit) -> None:
        body, sampling = hit.body, hit.body["sampling_params"]
        unknown = sampling.keys() - _SAMPLING
        if unknown:
            await hit.refuse(400, error={"message": f"unexpected keyword arguments: {sorted(unknown)}"})
            return
        seed = sampling.get("sampling_seed") if sampling.get("temperature", 1.0) > 0 else None
        rules = Rules(
            sampling["max_new_tokens"],
            sampling.get("min_new_tokens", 0),
            bool(sampling.get("ignore_eos")),
            sampling.get("ebnf") or "",
            seed,
        )
        cut = self.cuts.pop(0) if self.cuts else None
        ids = body["input_ids"]
        await hit.head()
        detokenizer, text = Detokenizer(), ""
        tokens: list[Made] = []
        for one in made(ids, rules):
            if self.step_s:
                await trio.sleep(self.step_s)
            piece = detokenizer.feed(one.id)
            text += piece
            tokens.append(one)
            new = tokens[-1:] if self.incremental else tokens
            event = {"text": piece if self.incremental else text, "output_ids": [each.id for each in new]}
            await hit.data(sse(event | {"meta_info": self._meta(hit, ids, tokens, new)}))
            if cut is not None and len(tokens) >= cut:
                await hit.stream.aclose()
                return
        await hit.data(sse(b"[DONE]"))
        await hit.end()

    @staticmethod
    def _meta(hit: Hit, ids: Sequence[int], tokens: Sequence[Made], new: Sequence[Made]) -> dict[str, Any]:
        last = tokens[-1]
        matched = {"matched": last.id} if last.finish == "stop" else {"length": len(tokens)}
        meta: dict[str, Any] = {
            "id": "rid",
            "finish_reason": None if last.finish is None else {"type": last.finish, **matched},
            "prompt_tokens": len(ids),
            "completion_tokens": len(tokens),
            "cached_tokens": 0,
            "weight_version": "default",
        }
        if hit.body.get("return_logprob"):
            triples = [[each.logprob, each.id, f"t{each.id}"] for each in new]
            meta |= {"output_token_logprobs": triples, "output_top_logprobs": [[triple] for triple in triples]}
        return meta

    async def _chat(self, hit: Hit) -> None:
        body = hit.body
        for field in ("return_token_ids", "return_prompt_token_ids"):
            if body.get("stream") and body.get(field):
                await refuse(hit, 400, f"{field} is not supported with streaming.")
                return
        ids = template(body["messages"], body.get("tools"), continues=bool(body.get("continue_final_message")))
        rules = rules_of(body, body.get("max_completion_tokens") or body.get("max_tokens") or 64, "")
        cut = self.cuts.pop(0) if self.cuts else None
        choices = ChatChoices(HermesParser("r") if body.get("tools") else None)
        await hit.head()
        detokenizer, count = Detokenizer(), 0
        for one in made(ids, rules):
            if self.step_s:
                await trio.sleep(self.step_s)
            count += 1
            choice = choices(detokenizer.feed(one.id), [one], one.finish, body)
            await hit.data(sse({"id": "rid", "object": "chat.completion.chunk", "choices": [choice]}))
            if cut is not None and count >= cut:
                await hit.stream.aclose()
                return
        usage = {"prompt_tokens": len(ids), "completion_tokens": count, "total_tokens": len(ids) + count}
        await hit.data(sse({"id": "rid", "object": "chat.completion.chunk", "choices": [], "usage": usage}))
        await hit.data(sse(b"[DONE]"))
        await hit.end()


_SAMPLING = {
    "max_new_tokens",
    "stop",
    "stop_token_ids",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "min_new_tokens",
    "json_schema",
    "regex",
    "ebnf",
    "ignore_eos",
    "logit_bias",
    "sampling_seed",
}
"""The fields of SGLang's `SamplingParams` that a server takes. Any other name is an error there."""


async def refuse(hit: Hit, status: int, message: str) -> None:
    """Answers with an error in SGLang's form, which is no object behind `error`."""
    await hit.head(status, kind="application/json")
    error = {"object": "error", "message": message, "type": "BadRequest", "param": None, "code": status}
    await hit.data(json.dumps(error).encode())
    await hit.end()
