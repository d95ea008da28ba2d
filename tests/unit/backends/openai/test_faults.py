"""What the refusal of an upstream says about the upstream and about the request."""

from typing import Any

import pytest

from llmactors.backends.openai.routing.faults import FaultKind, in_stream_fault, refusal_fault
from llmactors.errors import ContextExceeded, InvalidRequest, Unavailable

TOO_LONG: dict[str, dict[str, Any]] = {
    "OpenAI": {"message": "no", "type": "invalid_request_error", "code": "context_length_exceeded"},
    "vLLM": {
        "message": "'max_tokens' or 'max_completion_tokens' is too large: 800. This model's maximum context length is "
        "1024 tokens and your request has 700 input tokens (800 > 1024 - 700).",
        "type": "BadRequestError",
        "code": 400,
    },
    "vLLM, token ids": {"message": "The decoder prompt (length 40) is longer than the maximum model length of 32."},
    "vLLM, images": {"message": "The prompt (total length 9) is too long to fit into the model (context length 4)."},
    "SGLang": {"message": "The input (40 tokens) is longer than the model's context length (32 tokens)."},
    "SGLang, answer": {"message": "Requested token count exceeds the model's maximum context length of 64 tokens."},
    "llama.cpp": {"code": 400, "message": "no", "type": "exceed_context_size_error", "n_ctx": 32},
    "llama.cpp, older": {"code": 400, "message": "the request exceeds the available context size, try increasing it"},
    "llama.cpp, slot": {"message": "input (40 tokens) is larger than the max context size (32 tokens). skipping"},
}
KINDS = {
    400: FaultKind.REQUEST,
    401: FaultKind.KEY,
    402: FaultKind.REFUSED,
    403: FaultKind.KEY,
    404: FaultKind.MODEL,
    405: FaultKind.REFUSED,
    408: FaultKind.BUSY,
    409: FaultKind.BUSY,
    413: FaultKind.REQUEST,
    415: FaultKind.REFUSED,
    422: FaultKind.REQUEST,
    425: FaultKind.BUSY,
    429: FaultKind.BUSY,
    500: FaultKind.ERROR,
    502: FaultKind.ERROR,
    503: FaultKind.ERROR,
    504: FaultKind.ERROR,
    302: FaultKind.ERROR,
}


@pytest.mark.parametrize("server", TOO_LONG)
def test_prompt_that_is_too_long_is_told_apart(server: str) -> None:
    for fault in (refusal_fault(400, TOO_LONG[server], None), refusal_fault(413, TOO_LONG[server], None)):
        assert (fault.kind, type(fault.error)) == (FaultKind.CONTEXT, ContextExceeded)


@pytest.mark.parametrize("status", KINDS)
def test_status_tells_the_kind_of_the_fault(status: int) -> None:
    assert refusal_fault(status, {"message": "no"}, None).kind is KINDS[status]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_a_pause_of_an_upstream_that_is_well(status: int) -> None:
    fault = refusal_fault(status, {}, 7.0)
    assert (fault.kind, fault.hold_s) == (FaultKind.BUSY, 7.0)
    assert isinstance(fault.error, Unavailable)
    assert fault.error.retry_after_s == 7.0
    long = refusal_fault(status, {}, 1e9)
    assert long.hold_s == 3600


@pytest.mark.parametrize(
    "error", [{"code": "content_policy_violation"}, {"code": 403, "metadata": {"flagged_input": "a text"}}]
)
def test_flagged_text_is_no_wrong_key(error: dict[str, Any]) -> None:
    """Otherwise one client could close an upstream for all."""
    fault = refusal_fault(403, error, None)
    assert (fault.kind, type(fault.error)) == (FaultKind.REQUEST, InvalidRequest)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "INVALID_REQUEST"}, FaultKind.REQUEST),
        ({"code": "CONTEXT_EXCEEDED"}, FaultKind.CONTEXT),
        ({"code": "UNAVAILABLE"}, FaultKind.BUSY),
        ({"code": 400}, FaultKind.REQUEST),
        ({"code": "429"}, FaultKind.BUSY),
        ({"code": 500}, FaultKind.ERROR),
        ({"type": "server_error"}, FaultKind.ERROR),
        ({"type": "BadRequestError", "message": "maximum context length is 4"}, FaultKind.CONTEXT),
    ],
)
def test_error_in_a_stream_has_a_kind(error: dict[str, Any], kind: FaultKind) -> None:
    assert in_stream_fault(error).kind is kind
