"""The answers of upstreams that nothing disturbs, as the model of their doubles makes them. Pure."""

import itertools
import json
from collections.abc import Iterator

import attrs

from llmactors.backends.openai.engines.rest import rest_of_grammar
from llmactors.backends.stop_strings import StopStrings
from llmactors.messages import GenerateRequest
from tests.simulation.content.answers import Call
from tests.simulation.content.logs import RequestLog, split_calls
from tests.support.engines.model import END, Detokenizer, Rules, encode, made, template

_LONGEST_TOKEN = 11
"""The most characters of a token."""
_MOST_BREAKS = 3


@attrs.frozen
class FarAnswer:
    """The ids of an answer, and why it ended."""

    ids: tuple[int, ...]
    text: str
    reason: str


def far_answer(request: GenerateRequest, begun: str = "", made_tokens: int = 0) -> FarAnswer:
    """The answer to a request, or what follows behind a text of so many tokens."""
    tools = json.loads(request.tools.definitions) if request.tools is not None else None
    messages = [{"role": each.role, "content": each.content} for each in request.messages]
    if not messages and not request.raw:
        messages = [{"role": "user", "content": request.prompt}]
    prompt = template(messages, tools) if messages else encode(request.prompt)
    grammar = "" if request.constraint is None else rest_of_grammar(request.constraint, "")[0] or ""
    rules = Rules(
        request.max_tokens - made_tokens,
        request.min_tokens,
        request.ignore_eos,
        grammar,
        request.seed if request.temperature > 0 else None,
    )
    ids: list[int] = []
    reason, text, detokenizer = "length", "", Detokenizer()
    for one in made([*prompt, *encode(begun)], rules):
        ids.append(one.id)
        text += detokenizer.feed(one.id)
        if request.stop and any(stop in text for stop in request.stop):
            return FarAnswer(tuple(ids), StopStrings(request.stop).feed(text), "stop")
        reason = one.finish or reason
    return FarAnswer(tuple(ids), text, reason)


def far_problems(log: RequestLog) -> Iterator[str]:
    """How a log differs from the undisturbed answer."""
    expected = far_answer(log.request)
    ids = [delta.token for delta in log.deltas]
    if not any(token >= 0 for token in ids):
        yield from _text_problems(log, expected)
        return
    if (log.text, log.reason) != (expected.text, expected.reason):
        yield f"the log is {log.text!r} ({log.reason}), and undisturbed it is {expected.text!r} ({expected.reason})"
    elif [each for each in ids if each >= 0 and each != END] != [each for each in expected.ids if each != END]:
        yield f"the ids of the log are {ids}, and undisturbed they are {list(expected.ids)}"


def _text_problems(log: RequestLog, expected: FarAnswer) -> Iterator[str]:
    """How a log differs whose upstreams go on behind a text, and give no ids.

    The length of such a log is not exact: nobody knows how many tokens a part of a text was.
    """
    answer = log.answer()
    text, calls = split_calls(expected.text) if log.request.tools is not None else (expected.text, [])
    longer, shorter = sorted((text, answer.text), key=len, reverse=True)
    agrees = longer.startswith(shorter) and not (log.reason == expected.reason == "stop" and longer != shorter)
    if not agrees and (log.request.tools is not None or not _goes_on(log.request, answer.text)):
        yield f"the log is {answer.text!r} ({log.reason}), and undisturbed it is {text!r} ({expected.reason})"
    for seen, call in itertools.zip_longest(answer.calls, calls):
        if seen is None or call is None or not _agree(seen, call):
            yield f"the calls of the log are {answer.calls}, and undisturbed they are {calls}"


def _goes_on(request: GenerateRequest, text: str, begun: int = 0, breaks: int = 0) -> bool:
    """Whether a text follows from the prompt, with a few breaks behind which the model went on from the text so far.

    A break inside of a token, such as one whose end may begin a stop string, leads to other tokens than no break.
    """
    rest, got = far_answer(request, text[:begun]).text, text[begun:]
    if rest.startswith(got) or got.startswith(rest):
        return True
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(rest, got, strict=False)))
    places = range(common, max(0, common - _LONGEST_TOKEN), -1)
    return breaks < _MOST_BREAKS and any(_goes_on(request, text, begun + at, breaks + 1) for at in places)


def _agree(some: Call, other: Call) -> bool:
    """Whether two calls are the same, as far as both go."""
    shorter, longer = sorted((some.arguments, other.arguments), key=len)
    return some.name == other.name and longer.startswith(shorter)
