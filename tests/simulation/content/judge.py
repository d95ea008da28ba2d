"""Compares what clients saw with the logs, and the logs with the undisturbed answers."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs
import jsonschema
import redis

from llmactors.backends.mock.inputs import mock_vector
from llmactors.backends.mock.oracle import mock_tokens
from llmactors.http.request_id import derived_request_id, keyed_request_id
from llmactors.redislink.names import RedisNames
from llmactors.testing.usage_oracle import TokensUsed, UsageSeen
from tests.simulation.content.answers import Answer, CallAnswers, read_stream, read_whole
from tests.simulation.content.cases import Case
from tests.simulation.content.far_answers import far_problems
from tests.simulation.content.logs import RequestLog, read_log
from tests.simulation.content.reader import Reader

_ENDS = {
    "stop": {"stop", "tool_calls", "completed", "end_turn", "tool_use", "stop_sequence"},
    "length": {"length", "incomplete", "max_tokens"},
}
"""How each API says why an answer ended, by the reason in the log."""
_EXAMPLES = 6


@attrs.define
class ContentReport:
    """The judgement on all calls of a load."""

    calls: int = 0
    whole: int = 0
    """Calls whose answer came to its end, and is right."""
    tokens: int = 0
    resumed: int = 0
    """How often an answer was asked for again at a gateway."""
    kinds: Counter[str] = attrs.field(factory=Counter)
    broken: Counter[str] = attrs.field(factory=Counter)
    """How many calls of each kind broke a promise."""
    failures: Counter[str] = attrs.field(factory=Counter)
    """How many calls ended with an error, by code."""
    examples: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        lines = [f"calls {self.calls}, right {self.whole}, tokens {self.tokens}, resumed {self.resumed}"]
        return "\n  ".join([*lines, *self.examples])


def judge(
    readers: Sequence[Reader],
    client: "redis.Redis",
    names: RedisNames,
    usage: UsageSeen | None,
    origins: Mapping[str, str] = {},
) -> ContentReport:
    """Judges all calls after their load has ended: a call without an end is lost.

    `usage` is what Redis says of the usage of all requests; None where it forgot some of it.
    """
    report = ContentReport()
    used = None if usage is None else dict(usage.records)
    ids: Counter[str] = Counter()
    for reader in readers:
        report.calls += 1
        report.resumed += reader.resumed
        report.kinds[f"{reader.case.kind}{' in a stream' if reader.case.streamed else ''}"] += 1
        if reader.failure:
            report.failures[reader.failure] += 1
            continue
        problems = list(reader.problems)
        if not reader.done:
            problems.append("the answer has no end")
        elif not problems:
            logs = [read_log(client, names, request_id) for request_id in request_ids(reader, origins)]
            known = [log for log in logs if log is not None]
            try:
                problems += _problems(reader, known)
                problems += () if used is None else _usage_problems(known, used)
                ids.update(call.id for choice in _answers(reader).choices for call in choice.calls)
            except (AssertionError, LookupError, ValueError, TypeError) as error:
                problems.append(f"no reader can read the answer: {type(error).__name__}: {error}")
            report.tokens += sum(len(log.deltas) for log in known)
        if problems:
            report.broken[reader.case.kind] += 1
            if len(report.examples) < _EXAMPLES:
                report.examples.append(
                    f"{reader.request_id}, {reader.case.kind} of {reader.model}: {problems[0][:600]}"
                )
        else:
            report.whole += 1
    report.broken["calls of tools that share an id"] += sum(count > 1 for count in ids.values())
    return report


def request_ids(reader: Reader, origins: Mapping[str, str]) -> Iterator[str]:
    """The ids of all requests of a call. `origins` has the origin of each call on a connection that a keeper holds."""
    yield reader.request_id
    for number in range(1, reader.case.choices):
        if reader.asker is None:
            yield keyed_request_id("anonymous", f"{reader.key}\0{number}")
        else:
            yield derived_request_id(origins.get(reader.request_id, ""), number)


def _usage_problems(logs: Sequence[RequestLog], used: Mapping[str, TokensUsed]) -> Iterator[str]:
    for log in logs:
        record = used.get(log.request.id)
        if record is None or record.completion_tokens != len(log.deltas):
            yield f"the log has {len(log.deltas)} tokens, and the usage record is {record}"


def _answers(reader: Reader) -> CallAnswers:
    if reader.case.streamed:
        return read_stream(reader.case.api, reader.lanes)
    return read_whole(reader.case.api, reader.body)


def _problems(reader: Reader, logs: Sequence[RequestLog]) -> Iterator[str]:
    case, answers = reader.case, _answers(reader)
    if len(logs) != case.choices or len(answers.choices) != case.choices:
        yield f"{case.choices} choices have {len(logs)} logs and {len(answers.choices)} answers"
        return
    for log, answer in zip(logs, answers.choices, strict=True):
        yield from seen_problems(log, answer, shows_cut_calls=case.streamed or case.api != "messages")
        yield from log_problems(log)
        yield from form_problems(case, log, answer)
    made = sum(len(log.deltas) for log in logs)
    if answers.tokens is not None and answers.tokens != made:
        yield f"the client was told of {answers.tokens} tokens, and the logs have {made}"


def seen_problems(log: RequestLog, seen: Answer, *, shows_cut_calls: bool = True) -> Iterator[str]:
    """How what a client saw differs from the log. A call that the end of the answer cut may not be shown."""
    logged = log.answer()
    if not shows_cut_calls:
        logged.calls = [call for call in logged.calls if _is_json(call.arguments)]
    if seen.reason not in _ENDS.get(log.reason, ()):
        yield f"the log ended with {log.reason}, and the client saw {seen.reason}"
    # A vector is written with as many digits as 32 bits need.
    if not all(_are_close(*pair) for pair in zip(seen.vectors, logged.vectors, strict=True)):
        yield "the client's vectors are not those of the log"
    for name in ("text", "reasoning"):
        if getattr(seen, name) != getattr(logged, name):
            yield f"the client's {name} {getattr(seen, name)!r} is not that of the log: {getattr(logged, name)!r}"
    if seen.logprobs is not None and seen.logprobs != logged.logprobs:
        yield f"the client's log probabilities {seen.logprobs} are not those of the log: {logged.logprobs}"
    if [_of_call(call.name, call.arguments) for call in seen.calls] != [
        _of_call(call.name, call.arguments) for call in logged.calls
    ]:
        yield f"the client's calls {seen.calls} are not those of the log: {logged.calls}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _of_call(name: str, arguments: str) -> tuple[str, object]:
    try:
        return name, json.loads(arguments or "{}")
    except ValueError:
        return name, arguments


def log_problems(log: RequestLog) -> Iterator[str]:
    """How a log differs from that of an undisturbed run."""
    request = log.request
    if request.model != "mock":
        yield from far_problems(log)
    elif request.inputs:
        for given, vector in zip(request.inputs, log.answer().vectors, strict=True):
            if not all(
                math.isclose(a, b, abs_tol=1e-6) for a, b in zip(vector, mock_vector(given, len(vector)), strict=True)
            ):
                yield f"the vector of {given!r} is wrong"
    else:
        deltas, reason = mock_tokens(request)
        if log.deltas != deltas or log.reason != reason:
            yield f"the log is {_told(log.deltas)} ({log.reason}), and undisturbed it is {_told(deltas)} ({reason})"


def _are_close(some: Sequence[float], others: Sequence[float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(some, others, strict=True))


def _told(deltas: Sequence[object]) -> str:
    return f"{len(deltas)} tokens {[getattr(delta, 'text', '') for delta in deltas]}"


def form_problems(case: Case, log: RequestLog, seen: Answer) -> Iterator[str]:
    """What is wrong with the form of a complete answer."""
    if len({call.id for call in seen.calls}) != len(seen.calls) or not all(call.id for call in seen.calls):
        yield f"the calls have the ids {[call.id for call in seen.calls]}"
    if log.reason != "stop":
        return
    try:
        if case.schema is not None:
            jsonschema.Draft202012Validator(case.schema).validate(json.loads(seen.text))
        for call in seen.calls:
            jsonschema.Draft202012Validator(case.tools[call.name]).validate(json.loads(call.arguments))
    except (ValueError, KeyError, jsonschema.ValidationError) as error:
        yield f"the answer is not valid: {type(error).__name__}: {str(error).splitlines()[0]}"
    if case.must_call and not seen.calls:
        yield "the answer has no call"
