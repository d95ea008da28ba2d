"""Answers as real servers stream them, written from their public documents: one answer for each server.

Each has an answer's bytes, and what a reader has to find in them.
"""

import json
from typing import Any

import attrs


@attrs.frozen
class Dialect:
    """One recorded form."""

    name: str
    raw: bytes
    text: str = "Hello there"
    reasoning: str = ""
    finish: str = "stop"
    prompt_tokens: int | None = 9
    completion_tokens: int | None = 2
    calls: tuple[tuple[str, str], ...] = ()
    """The name and the arguments of each call."""
    is_done: bool = True


def _data(*payloads: Any, end: bytes = b"\n\n", done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(each).encode() for each in payloads]
    return b"".join(line + end for line in [*lines, *([b"data: [DONE]"] if done else [])])


def _chunk(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "m"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
_FILTERS = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_ROLE = {"role": "assistant", "content": ""}

OPENAI = Dialect(
    "openai",
    _data(
        _chunk(
            {**_ROLE, "refusal": None}, system_fingerprint="fp", service_tier="default", usage=None, obfuscation="x"
        ),
        _chunk({"content": "Hello"}, usage=None),
        _chunk({"content": " there"}, usage=None),
        _chunk({}, "stop", usage=None),
        {
            "choices": [],
            "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 0}, "prompt_tokens_details": None},
        },
    ),
)
OPENAI_REFUSAL = Dialect(
    "openai-refusal",
    _data(
        _chunk({"role": "assistant", "content": None, "refusal": ""}),
        _chunk({"refusal": "I can't"}),
        _chunk({"refusal": " help."}),
        _chunk({}, "stop"),
        {"choices": [], "usage": USAGE},
    ),
    "I can't help.",
)
AZURE = Dialect(
    "azure",
    _data(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _FILTERS}],
        },
        _chunk(_ROLE),
        _chunk({"content": "Hello"}),
        _chunk({"content": " there"}),
        _chunk({}, "stop"),
        {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": None,
                    "content_filter_offsets": {"check_offset": 1, "start_offset": 1, "end_offset": 2},
                    "content_filter_results": _FILTERS,
                }
            ]
        },
        {"choices": [], "usage": USAGE},
    ),
)
MISTRAL = Dialect(
    "mistral",
    _data(
        _chunk({"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]}),
        _chunk({"content": [{"type": "text", "text": "Hello"}]}),
        _chunk({"content": " there", "tool_calls": None}),
        _chunk({"content": ""}, "stop", usage=USAGE, p="abcd"),
    ),
    reasoning="Hm.",
)
MISTRAL_CALLS = Dialect(
    "mistral-calls",
    _data(
        _chunk(_ROLE),
        _chunk(
            {
                "content": "",
                "tool_calls": [
                    {"id": "D681PevKs", "function": {"name": "look", "arguments": '{"at": 1}'}, "index": 0},
                    {"id": "E123fGhIj", "function": {"name": "look", "arguments": '{"at": 2}'}, "index": 1},
                ],
            },
            "tool_calls",
            usage=USAGE,
        ),
    ),
    "",
    calls=(("look", '{"at": 1}'), ("look", '{"at": 2}')),
)
GROQ = Dialect(
    "groq",
    _data(
        _chunk(_ROLE, x_groq={"id": "req_1"}),
        _chunk({"reasoning": "Hm."}),
        _chunk({"content": "Hello"}),
        _chunk({"content": " there"}),
        _chunk({}, "stop", x_groq={"id": "req_1", "usage": {**USAGE, "queue_time": 0.01, "total_time": 0.02}}),
    ),
    reasoning="Hm.",
)
OLLAMA = Dialect(
    "ollama",
    _data(
        _chunk({"role": "assistant", "content": "", "reasoning": "Hm."}, system_fingerprint="fp_ollama"),
        _chunk({"role": "assistant", "content": "Hello"}),
        _chunk({"role": "assistant", "content": " there"}),
        _chunk({"role": "assistant", "content": ""}, "stop"),
        {"choices": [], "usage": USAGE},
    ),
    reasoning="Hm.",
)
OLLAMA_CALLS = Dialect(
    "ollama-calls",
    _data(
        *(
            _chunk(
                {
                    **_ROLE,
                    "tool_calls": [
                        {
                            "id": f"call_{at}",
                            "index": 0,
                            "type": "function",
                            "function": {"name": "look", "arguments": f'{{"at":{at}}}'},
                        }
                    ],
                }
            )
            for at in (1, 2)
        ),
        _chunk(_ROLE, "tool_calls"),
        {"choices": [], "usage": USAGE},
    ),
    "",
    calls=(("look", '{"at":1}'), ("look", '{"at":2}')),
)
LM_STUDIO = Dialect(
    "lm-studio",
    _data(
        _chunk({"role": "assistant", "content": "Hello"}, system_fingerprint="m"),
        _chunk({"role": "assistant", "content": " there"}),
        _chunk({}, "stop", stats={}),
        {"choices": [], "usage": USAGE},
    ),
)
TGI = Dialect(
    "tgi",
    _data(
        _chunk({"role": "assistant", "content": "Hello"}, usage=None),
        _chunk({"role": "assistant", "content": " there"}, "eos_token", usage=None),
        {"choices": [], "usage": USAGE},
    ).replace(b"data: ", b"data:"),
)
GEMINI = Dialect(
    "gemini",
    _data(
        _chunk({"role": "assistant", "content": "Hello"}, usage={**USAGE, "completion_tokens": 1}),
        _chunk({"role": "assistant", "content": " there"}, "stop", usage=USAGE),
        end=b"\r\n\r\n",
    ),
)
GEMINI_CALLS = Dialect(
    "gemini-calls",
    _data(
        _chunk(
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "extra_content": {"google": {"thought_signature": "abc"}},
                        "function": {"arguments": f'{{"at":{at}}}', "name": "look"},
                        "id": "",
                        "type": "function",
                    }
                    for at in (1, 2)
                ],
            },
            "tool_calls",
            usage=USAGE,
        ),
    ),
    "",
    calls=(("look", '{"at":1}'), ("look", '{"at":2}')),
)
OPENROUTER = Dialect(
    "openrouter",
    b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
    + _data(
        {**_chunk({**_ROLE, "reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]})},
        {**_chunk({"role": "assistant", "content": "Hello"}), "provider": "X"},
    ).removesuffix(b"data: [DONE]\n\n")
    + b": OPENROUTER PROCESSING\n\n"
    + _data(
        _chunk({"role": "assistant", "content": " there"}),
        {
            "choices": [
                {
                    "index": 0,
                    "delta": _ROLE,
                    "finish_reason": "stop",
                    "native_finish_reason": "end_turn",
                    "logprobs": None,
                }
            ]
        },
        {"choices": [{"index": 0, "delta": _ROLE, "finish_reason": None}], "usage": {**USAGE, "cost": 0.0001}},
    ),
    reasoning="Hm.",
)
DEEPSEEK = Dialect(
    "deepseek",
    b": keep-alive\n\n"
    + _data(
        _chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
        _chunk({"content": None, "reasoning_content": "Hm."}),
        _chunk({"content": "Hello", "reasoning_content": None}),
        _chunk({"content": " there", "reasoning_content": None}),
        _chunk({"content": "", "reasoning_content": None}, "stop", usage={**USAGE, "prompt_cache_hit_tokens": 0}),
    ),
    reasoning="Hm.",
)
VLLM = Dialect(
    "vllm",
    _data(
        _chunk(_ROLE, prompt_token_ids=None, usage={**USAGE, "completion_tokens": 0}),
        _chunk({"reasoning": "Hm.", "reasoning_content": "Hm."}, usage={**USAGE, "completion_tokens": 1}),
        _chunk({"content": "Hello"}, usage={**USAGE, "completion_tokens": 1}),
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": " there"},
                    "logprobs": None,
                    "finish_reason": "stop",
                    "stop_reason": 2,
                }
            ],
            "usage": USAGE,
        },
        {"choices": [], "usage": USAGE},
    ),
    reasoning="Hm.",
)
SGLANG = Dialect(
    "sglang",
    _data(
        _chunk({"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": None}, usage=None),
        _chunk({"role": None, "content": "Hello", "reasoning_content": None, "tool_calls": None}),
        _chunk({"role": None, "content": " there", "reasoning_content": None, "tool_calls": None}),
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": None, "content": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                    "matched_stop": 151645,
                }
            ]
        },
        {"choices": [], "usage": {**USAGE, "prompt_tokens_details": None, "reasoning_tokens": 0}},
    ),
)
LLAMA_CPP = Dialect(
    "llama.cpp",
    _data(
        _chunk({"role": "assistant", "content": None}),
        _chunk({"content": "Hello"}),
        _chunk({"content": " there"}),
        _chunk({}, "stop", timings={"prompt_n": 9, "predicted_n": 2}),
        {"choices": [], "usage": USAGE, "timings": {"prompt_n": 9, "predicted_n": 2}},
    ),
)
WHOLE = Dialect(
    "whole-answer",
    json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Hello there",
                        "reasoning_content": "Hm.",
                        "tool_calls": [
                            {"id": "a", "type": "function", "function": {"name": "look", "arguments": {"at": 1}}}
                        ],
                    },
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        },
        indent=1,
    ).encode(),
    reasoning="Hm.",
    calls=(("look", '{"at":1}'),),
)
ODD = Dialect(
    "everything-odd",
    b"\xef\xbb\xbf"
    b'data: {"choices":[{"index":"0","delta":\rretry: 10\rid: 1\revent: message\rdata: {"content":"Hello"}}]}\r\r'
    b'data: null\n\ndata: {"choices":\r\ndata: null}\r\n\r\ndata: {"id":"x"}\n\ndata: {"choices":[null]}\n\ndata:\n\n'
    b'data: {"choices":[{"index":1,"delta":{"content":"another"}},{"index":0,"delta":null,"text":" "}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\ndata: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"\xf0\x9f"}}]}\n\ndata: {"choices":[{"delta":{"content":"\x98\x80"}}]}\n\n'
    b'data: {"choices":[{"delta":{"function_call":{"name":"look","arguments":"{\\"at\\""}}}],"usage":null}\n\n'
    b'data: {"choices":[{"delta":{"function_call":{"arguments":":1}"}}}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"MAX_TOKENS"}],"error":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":"9","completion_tokens":2.0,"total_tokens":null}}',
    "Hello 😀😀",
    finish="length",
    calls=(("look", '{"at":1}'),),
    is_done=False,
)

DIALECTS = (
    OPENAI,
    OPENAI_REFUSAL,
    AZURE,
    MISTRAL,
    MISTRAL_CALLS,
    GROQ,
    OLLAMA,
    OLLAMA_CALLS,
    LM_STUDIO,
    TGI,
    GEMINI,
    GEMINI_CALLS,
    OPENROUTER,
    DEEPSEEK,
    VLLM,
    SGLANG,
    LLAMA_CPP,
    WHOLE,
    ODD,
)
