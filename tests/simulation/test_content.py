"""The judgement on answers in the simulation notices what a server could do wrong."""

import random

import attrs

from llmactors.backends.mock.oracle import mock_tokens
from llmactors.messages import ChatMessage, GenerateRequest, TokenDelta, ToolUse
from tests.simulation.content.answers import Answer, Call, read_stream
from tests.simulation.content.cases import KINDS, case_of
from tests.simulation.content.far_answers import far_answer, far_problems
from tests.simulation.content.judge import form_problems, log_problems, seen_problems
from tests.simulation.content.logs import RequestLog
from tests.support.engines.model import Rules, encode
from tests.support.engines.vllm import VllmDouble

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "</tool_call>"}}\n</tool_call>'


def log_of(text: str, request: GenerateRequest | None = None, reason: str = "stop") -> RequestLog:
    asked = request or GenerateRequest("req_1", "mock", "p", tools=ToolUse("[]", "hermes"))
    deltas = tuple(TokenDelta(number, char) for number, char in enumerate(text))
    return RequestLog(asked, deltas, ("f", reason, 1, len(deltas)))


def test_calls_in_a_log_are_found_without_the_parser() -> None:
    answer = log_of(f"Let me see. \n{CALL}\n{CALL} Done.").answer()
    assert answer.text == "Let me see.Done."
    assert [(call.name, call.arguments) for call in answer.calls] == [("look", '{"at": "</tool_call>"}')] * 2


def test_client_that_sees_a_call_twice_or_cut_is_noticed() -> None:
    log = log_of(f"Hm. {CALL}")
    right = Answer("Hm.", calls=[Call("a", "look", '{"at":"</tool_call>"}')], reason="tool_calls")
    assert not [*seen_problems(log, right)]
    for calls in ([], right.calls * 2, [Call("a", "look", '{"at":"')], [Call("a", "other", right.calls[0].arguments)]):
        assert [*seen_problems(log, attrs.evolve(right, calls=calls))]
    assert [*seen_problems(log, attrs.evolve(right, text="Hm. "))]
    assert [*seen_problems(log, attrs.evolve(right, reason="length"))]


def test_log_with_a_lost_or_repeated_token_is_noticed() -> None:
    request = GenerateRequest("req_1", "mock", "p", max_tokens=8, seed=3)
    deltas, reason = mock_tokens(request)
    end = ("f", reason, 1, 8)
    assert not [*log_problems(RequestLog(request, deltas, end))]
    for wrong in (deltas[:3] + deltas[4:], deltas[:3] + deltas[2:], deltas[::-1]):
        assert [*log_problems(RequestLog(request, wrong, end))]
    assert [*log_problems(RequestLog(request, deltas, ("f", "stop", 1, 8)))]


def test_answer_that_is_not_valid_is_noticed() -> None:
    case = attrs.evolve(
        case_of(random.Random(1), "p", {"any": KINDS["chat with a schema"]}), schema={"type": "integer"}
    )
    assert not [*form_problems(case, log_of("12"), Answer("12"))]
    for text in ("1.5", "12 13", '"12"', ""):
        assert [*form_problems(case, log_of(text), Answer(text))]
    assert not [*form_problems(case, log_of("1", reason="length"), Answer("1x"))]


def test_stream_is_read_by_choices() -> None:
    def chunk(index: int, text: str, reason: str | None = None) -> dict[str, object]:
        choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": reason}
        return {"choices": [choice]}

    lanes = {"1": [chunk(1, "b"), chunk(1, "", "stop")], "0": [chunk(0, "a"), chunk(0, "c", "length")]}
    found = read_stream("chat", lanes)
    assert [(answer.text, answer.reason) for answer in found.choices] == [("ac", "length"), ("b", "stop")]


def test_every_kind_of_call_can_be_made() -> None:
    kinds = {case_of(random.Random(number), "p").kind for number in range(300)}
    assert kinds == set(KINDS)


def test_text_behind_a_break_is_known_from_a_wrong_one() -> None:
    request = GenerateRequest("req_1", "far", "p", messages=(ChatMessage("user", "p"),), max_tokens=16, temperature=0.0)
    text = far_answer(request).text
    cut = text[:25]
    broken = cut + far_answer(request, cut).text[:40]
    for right in (text, broken):
        assert not [*far_problems(far_log(request, right))]
    for wrong in (text[:20] + text[30:], text[:20] + text[10:], broken[:-12] + text[-12:]):
        assert [*far_problems(far_log(request, wrong))]


def test_upstream_sends_no_beginning_of_a_stop_string() -> None:
    ids, rules = encode("p"), Rules(12)
    text = "".join(piece for _, piece, _ in VllmDouble()._steps(ids, rules, ()))
    stop = text[8:14]
    cut = "".join(piece for _, piece, _ in VllmDouble()._steps(ids, rules, (stop,)))
    assert cut == text[: text.index(stop)]


def far_log(request: GenerateRequest, text: str) -> RequestLog:
    return RequestLog(request, (TokenDelta(-1, text),), ("f", "length", 1, 1))
