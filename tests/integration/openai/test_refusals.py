"""Every refusal of the OpenAI routes over HTTP has its status, and a body that names the wrong field.

A request for a stream gets the same refusal, and no stream begins.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import httpx
import pytest
import trio

from llmactors.gateway.openai.unserved import EXTENSIONS, UNSERVED
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until

pytestmark = pytest.mark.integration

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HI = {"role": "user", "content": "hi"}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "mock", "messages": [HI], "max_tokens": 3},
    COMPLETION: {"model": "mock", "prompt": "hi", "max_tokens": 3},
}
CONTEXT = 64
WANTED = {
    "audio": {"voice": "alloy", "format": "wav"},
    "best_of": 2,
    "echo": True,
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "modalities": ["text", "audio"],
    "prediction": {"type": "content", "content": "x"},
    "suffix": "end",
    "verbosity": "low",
    "web_search_options": {},
}
"""For each field that is not served, a value that asks for something."""


@attrs.frozen
class Wrong:
    """A wrong body, and the refusal that must answer it."""

    fields: dict[str, Any]
    says: str
    param: str | None
    paths: tuple[str, ...] = (CHAT, COMPLETION)
    status: int = 400
    kind: str = "invalid_request_error"
    code: str = "invalid_request"

    def check(self, answer: httpx.Response, where: str) -> None:
        """Asserts that an answer is this refusal."""
        assert answer.status_code == self.status, (where, answer.text)
        assert answer.headers["content-type"] == "application/json", where
        assert answer.headers["x-request-id"].startswith("req_"), where
        assert int(answer.headers["openai-processing-ms"]) >= 0, where
        assert list(answer.json()) == ["error"], where
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}, where
        assert (error["type"], error["param"], error["code"]) == (self.kind, self.param, self.code), where
        assert self.says in error["message"], (where, error["message"])
        if self.param is not None:
            assert f"`{self.param}" in error["message"], (where, error["message"])


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
UNSERVED_SCHEMA = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
RECURSIVE = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
DEEP: dict[str, Any] = {}
for _ in range(60):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


def strict(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


def messages(*wrong: Any) -> dict[str, Any]:
    return {"messages": list(wrong)}


BY_THE_MOCK = "is not served by this model"
TABLE = [
    *(Wrong({name: value}, "is not served here; leave it out", name) for name, value in WANTED.items()),
    *(Wrong({name: "asked for"}, "is not served here; leave it out", name) for name in EXTENSIONS),
    Wrong({"top_k": -2}, ">= -1", "top_k"),
    Wrong({"min_p": 1.5}, "<= 1", "min_p"),
    Wrong({"repeat_penalty": 0}, "> 0", "repeat_penalty"),
    Wrong({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "send one of them", "repetition_penalty"),
    Wrong({"min_tokens": 4}, "more than `max_tokens`", "min_tokens"),
    Wrong({"top_k": 5}, BY_THE_MOCK, "top_k"),
    Wrong({"min_p": 0.1}, BY_THE_MOCK, "min_p"),
    Wrong({"repeat_penalty": 1.1}, BY_THE_MOCK, "repeat_penalty"),
    Wrong({"repetition_penalty": 1.1}, BY_THE_MOCK, "repetition_penalty"),
    Wrong({"frequency_penalty": 0.1}, BY_THE_MOCK, "frequency_penalty"),
    Wrong({"presence_penalty": -0.1}, BY_THE_MOCK, "presence_penalty"),
    Wrong({"logit_bias": {"5": 1}}, BY_THE_MOCK, "logit_bias"),
    Wrong({"frequency_penalty": 2.1}, "<= 2", "frequency_penalty"),
    Wrong({"presence_penalty": "much"}, "got `str`", "presence_penalty"),
    Wrong({"logit_bias": {"word": 1}}, "Expected `int`", "logit_bias"),
    Wrong({"logit_bias": {"5": 101}}, "<= 100", "logit_bias"),
    Wrong({"model": ""}, "length >= 1", "model"),
    Wrong({"model": None}, "got `null`", "model"),
    Wrong(
        {"model": "other"}, "there is no such model", None, status=404, kind="not_found_error", code="model_not_found"
    ),
    Wrong({"n": 0}, ">= 1", "n"),
    Wrong({"n": 17}, "<= 16", "n"),
    Wrong({"temperature": 2.1}, "<= 2", "temperature"),
    Wrong({"temperature": "hot"}, "got `str`", "temperature"),
    Wrong({"top_p": -0.1}, ">= 0", "top_p"),
    Wrong({"max_tokens": 0}, ">= 1", "max_tokens"),
    Wrong({"max_tokens": CONTEXT}, "leaves no room for a prompt", "max_tokens"),
    Wrong({"stop": ""}, "length >= 1", "stop"),
    Wrong({"stop": ["x"] * 17}, "length <= 16", "stop"),
    Wrong({"seed": "x"}, "got `str`", "seed"),
    Wrong({"stream_options": {"include_usage": "yes"}}, "got `str`", "stream_options"),
    Wrong({"max_completion_tokens": -1}, ">= 1", "max_completion_tokens", (CHAT,)),
    Wrong({"messages": None}, "got `null`", "messages", (CHAT,)),
    Wrong(messages(), "length >= 1", "messages", (CHAT,)),
    Wrong(messages({"role": "assistant", "content": ""}), "no message but empty answers", "messages", (CHAT,)),
    Wrong(messages("hi"), "got `str`", "messages", (CHAT,)),
    Wrong(messages({"role": "function", "content": "x"}), "must be one of", "messages", (CHAT,)),
    Wrong(messages({"role": {}, "content": "x"}), "must be one of", "messages", (CHAT,)),
    Wrong(messages({"content": "x"}), "must be one of", "messages", (CHAT,)),
    Wrong(messages({"role": "user"}), "must be a text", "messages", (CHAT,)),
    Wrong(messages({"role": "user", "content": None}), "must be a text", "messages", (CHAT,)),
    Wrong(messages({"role": "user", "content": 5}), "must be a text", "messages", (CHAT,)),
    Wrong(messages({"role": "user", "content": [{"type": "image_url"}]}), "needs the URL", "messages", (CHAT,)),
    Wrong(messages(HI | {"tool_calls": [{}]}), "`messages[0].tool_calls[0]` must be the call", "messages", (CHAT,)),
    Wrong({"tool_choice": "required"}, "is not served here; leave it out", "tool_choice", (COMPLETION,)),
    Wrong({"tools": [TOOL]}, "is not served here; leave it out", "tools", (COMPLETION,)),
    Wrong({"tool_choice": "required"}, "there are no `tools`", "tool_choice", (CHAT,)),
    Wrong({"tools": [TOOL] * 2}, "two functions called 'f'", "tools", (CHAT,)),
    Wrong({"tools": [TOOL], "tool_choice": "always"}, "must be `none`, `auto`", "tool_choice", (CHAT,)),
    Wrong({"tools": [{"type": "custom"}]}, "`tools[0].type` must be `function`", "tools", (CHAT,)),
    Wrong({"tools": [strict({"not": {}})]}, "`tools[0].function.parameters`: $.not", "tools", (CHAT,)),
    Wrong({"response_format": {"type": "xml"}}, "must be `text`, `json_object`", "response_format"),
    Wrong({"response_format": schema_format(UNSERVED_SCHEMA)}, "$.properties.a.not: ", "response_format"),
    Wrong({"response_format": schema_format(RECURSIVE)}, "can never end", "response_format"),
    Wrong({"response_format": schema_format(DEEP)}, "nested", "response_format"),
    Wrong({"guided_json": UNSERVED_SCHEMA}, "`guided_json`: $.properties.a.not: ", "guided_json"),
    Wrong({"guided_regex": "a(?=b)"}, "look", "guided_regex"),
    Wrong({"guided_grammar": "root ::= other"}, "not defined", "guided_grammar"),
    Wrong({"structured_outputs": {"structural_tag": "x"}}, "structural_tag` is not served", "structured_outputs"),
    Wrong({"guided_choice": ["a"], "grammar": 'root ::= "a"'}, "both ask for a form", "grammar"),
    Wrong({"prompt": ""}, "is empty", "prompt", (COMPLETION,)),
    Wrong({"prompt": []}, "is empty", "prompt", (COMPLETION,)),
    Wrong({"prompt": [[]]}, "is empty", "prompt", (COMPLETION,)),
    Wrong({"prompt": [1, "a"]}, "must be a text, a list of texts, a list of token ids", "prompt", (COMPLETION,)),
    Wrong({"prompt": [-1]}, "must be a text", "prompt", (COMPLETION,)),
    Wrong({"prompt": {}}, "must be a text", "prompt", (COMPLETION,)),
    Wrong({"prompt": ["a"] * 9, "n": 2}, "18 answers at once", "prompt", (COMPLETION,)),
    Wrong({"prompt": "word " * 70}, "70 + 3 tokens", None, (COMPLETION,), code="context_length_exceeded"),
    Wrong({"prompt": [7] * 70}, "70 + 3 tokens", None, (COMPLETION,), code="context_length_exceeded"),
    Wrong(messages(HI | {"content": "word " * 70}), "71 + 3 tokens", None, (CHAT,), code="context_length_exceeded"),
    Wrong(
        messages(HI | {"content": "word " * 70}) | {"max_tokens": None},
        "this model's maximum context length is 64 tokens",
        None,
        (CHAT,),
        code="context_length_exceeded",
    ),
    Wrong({"prompt": "refuse me"}, "set to refuse", None, (COMPLETION,), 502, "server_error", "backend_failed"),
]


def sent(wrong: Wrong) -> Iterator[tuple[str, dict[str, Any]]]:
    """The wrong body on each route, without and with a stream."""
    for path in wrong.paths:
        for stream in (False, True):
            yield path, BODIES[path] | {"stream": stream} | wrong.fields


async def test_each_row_of_the_table_is_refused() -> None:
    assert WANTED.keys() == UNSERVED.keys()
    async with local_node(mock_model(f"context={CONTEXT},refuse=refuse me")) as node:
        for wrong in TABLE:
            for path, body in sent(wrong):
                wrong.check(await node.client.post(path, json=body), f"{path} {str(body)[:200]}")


async def test_body_that_is_no_request_is_refused() -> None:
    missing = {"messages": [HI], "max_tokens": 1}
    limits = {"type": "invalid_request_error", "param": None}
    async with local_node(mock_model()) as node:
        for content, says in (
            (b"", "the body is empty"),
            (b"[]", "must be a JSON object"),
            (b"{", "not valid JSON"),
            (b'{"model": "\xff"}', "not valid UTF-8"),
            (b'{"a":' * 5000, "not valid JSON"),
        ):
            answer = await node.client.post(CHAT, content=content)
            assert answer.status_code == 400, content[:20]
            error = answer.json()["error"]
            assert limits.items() <= error.items(), content[:20]
            assert says in error["message"] or "nested too deeply" in error["message"]
        Wrong({}, "`model` is missing", "model").check(await node.client.post(CHAT, json=missing), "no model")
        large = await node.client.post(CHAT, content=b" " * 2**20 + b"{}")
        Wrong({}, "at most", None, status=413, code="too_large").check(large, "too large")
        method = await node.client.get(CHAT)
        Wrong({}, "use POST", None, status=405, code="method_not_allowed").check(method, "GET")
        assert method.headers["allow"] == "POST, OPTIONS"
        absent = await node.client.get("/v1/models/other")
        Wrong({}, "no such model", None, status=404, kind="not_found_error", code="model_not_found").check(
            absent, "model"
        )


async def test_deadline_and_limit_errors_say_whether_to_retry() -> None:
    late = {"x-request-deadline": str(int(time.time() * 1000) - 1000)}
    async with local_node(mock_model(), rate_limit="1/h") as node:
        for path in (CHAT, COMPLETION):
            answer = await node.client.post(path, json=BODIES[path], headers=late)
            Wrong({}, "deadline", None, status=504, kind="server_error", code="deadline_exceeded").check(answer, path)
            assert answer.headers["x-should-retry"] == "false"
        first = await node.client.post(CHAT, json=BODIES[CHAT])
        assert first.headers["x-ratelimit-limit-requests"] == "1"
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        assert first.headers["x-ratelimit-reset-requests"]
        assert int(first.headers["openai-processing-ms"]) >= 0
        for stream in (False, True):
            limited = await node.client.post(CHAT, json=BODIES[CHAT] | {"stream": stream})
            refused = Wrong({}, "limit", None, status=429, kind="requests", code="rate_limit_exceeded")
            refused.check(limited, "limited")
            assert limited.headers["x-should-retry"] == "true"
            assert 0 < int(limited.headers["retry-after-ms"]) <= int(limited.headers["retry-after"]) * 1000


async def test_missing_or_wrong_key_is_401() -> None:
    async with local_node(mock_model(), api_key="sesame") as node:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
            for path in (CHAT, COMPLETION):
                answer = await node.client.post(path, json=BODIES[path], headers=headers)
                refused = Wrong({}, "API key", None, status=401, kind="authentication_error", code="invalid_api_key")
                refused.check(answer, f"{path} {headers}")
                assert answer.headers["www-authenticate"] == "Bearer"


def _holds(node: LocalNode, what: str) -> bool:
    return what in repr(node.node.ledger)


async def test_full_queue_is_429() -> None:
    async with local_node(mock_model("step_ms=5,slots=1"), max_queued=1) as node, trio.open_nursery() as nursery:
        for queued in ("0 queued, 1 running", "1 queued, 1 running"):
            nursery.start_soon(partial(node.client.post, COMPLETION, json=BODIES[COMPLETION] | {"max_tokens": 4000}))
            await wait_until(partial(_holds, node, queued))
        full = await node.client.post(COMPLETION, json=BODIES[COMPLETION] | {"stream": True})
        Wrong({}, "queue is full", None, status=429, kind="rate_limit_error", code="overloaded").check(full, "")
        assert (full.headers["retry-after"], full.headers["x-should-retry"]) == ("1", "true")
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_same_idempotency_key_with_another_body_is_409() -> None:
    async with local_node(mock_model()) as node:
        headers = {"idempotency-key": "k"}
        assert (await node.client.post(CHAT, json=BODIES[CHAT], headers=headers)).status_code == 200
        other = await node.client.post(CHAT, json=BODIES[CHAT] | {"max_tokens": 4}, headers=headers)
        Wrong({}, "idempotency key", None, status=409, code="conflict").check(other, "")
        assert other.headers["x-should-retry"] == "false", "clients try a 409 again by themselves"


async def test_early_failure_of_one_choice_is_the_status_of_all() -> None:
    """Clients retry after an error status, but never once a stream has begun."""
    async with local_node(mock_model("refuse=refuse me")) as node:
        body = BODIES[CHAT] | messages(HI | {"content": "refuse me"}) | {"stream": True, "n": 3}
        answer = await node.client.post(CHAT, json=body)
        Wrong({}, "", None, status=502, kind="server_error", code="backend_failed").check(answer, "")
        assert answer.headers["x-should-retry"] == "false"


async def test_fields_about_the_caller_are_tolerated() -> None:
    harmless = {
        "user": "u1",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "flex",
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "stream_options": {"continuous_usage_stats": True},
        "unheard_of": [1],
        "n": None,
        "seed": None,
        "stop": None,
        "temperature": None,
        "frequency_penalty": 0,
        "logit_bias": {},
        "verbosity": "medium",
        "do_sample": True,
        "num_beams": 1,
        "repeat_last_n": 64,
        "top_n_sigma": -1,
        "mirostat_tau": 5.0,
    }
    conversation = messages(
        {"role": "system", "content": ""},
        {"role": "developer", "content": "Be brief."},
        HI | {"name": "Ann"},
        {"role": "assistant", "content": None, "refusal": None},
        HI,
    )
    async with local_node(mock_model()) as node:
        for path, more in ((CHAT, conversation), (COMPLETION, {})):
            answer = await node.client.post(path, json=BODIES[path] | harmless | more)
            assert answer.status_code == 200, answer.text
