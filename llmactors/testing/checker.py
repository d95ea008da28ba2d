"""Checks a history: did each accepted request end once, with each token once and every token right? Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.testing.history import Gap, History, RequestHistory
from llmactors.testing.usage_oracle import UsageSeen

Oracle = Callable[[RequestHistory], Sequence[str] | None]
"""Returns the texts of the tokens of the right answer; None if the right answer is not known."""

_EXAMPLES = 3
_NOT_FOUND = 404
_BROKEN = (
    "lost_requests",
    "lost",
    "repeated",
    "disordered",
    "wrong",
    "second_ends",
    "wrong_ends",
    "after_end",
    "foreign",
    "replays_differ",
    "keys_left",
    "misrecorded",
)


class KeyObserver(Protocol):
    """Looks for keys that a load left in the store of the ledger."""

    def keys_left(self) -> Sequence[str]:
        """The keys that should be gone by now."""


def mock_answer(request: RequestHistory) -> Sequence[str]:
    """The oracle for the mock backend, for answers that only `max_tokens` ends."""
    base = sequence_hash(request.prompt, request.seed)
    return [token_of(base, seq).text for seq in range(1, request.max_tokens + 1)]


@attrs.define
class CheckReport:
    """The judgement on all requests of a load. `broken` counts what must never happen."""

    accepted: int = 0
    """Requests that were accepted."""
    ended_once: int = 0
    """Requests with exactly one terminal event, whether `done` or an explicit `error`."""
    finished: int = 0
    """Requests whose first terminal event is `done`."""
    tokens: int = 0
    """Right tokens, each counted once."""
    lost_requests: int = 0
    """Accepted requests without a terminal event."""
    lost: int = 0
    """Tokens that must have been in the log and that the client never saw."""
    repeated: int = 0
    """Tokens that the client saw before."""
    disordered: int = 0
    """Tokens that came after a token with a higher seq."""
    wrong: int = 0
    """Tokens whose text differs from the right answer, or that come after the end of the right answer."""
    second_ends: int = 0
    """Terminal events after the first one of a request."""
    wrong_ends: int = 0
    """Terminal events whose seq or usage does not fit the tokens."""
    after_end: int = 0
    """Tokens after a terminal event."""
    foreign: int = 0
    """Events of another stream, and requests whose id another request has too."""
    replays: int = 0
    """Logs that were read a second time."""
    replays_differ: int = 0
    """Logs whose second reading differs from the first."""
    keys_left: int = 0
    """Keys that the load left in the store."""
    misrecorded: int = 0
    """Usage records that are missing, that come twice or differ from a log, and sums and charges that differ from the
    records."""
    failures: Counter[str] = attrs.field(factory=Counter)
    """Terminal `error` events, by code. They are no loss; which codes may occur depends on the faults."""
    refused: Counter[str] = attrs.field(factory=Counter)
    unknown: Counter[str] = attrs.field(factory=Counter)
    http_errors: Counter[str] = attrs.field(factory=Counter)
    reconnects: int = 0
    gaps: list[Gap] = attrs.field(factory=list)
    """Gaps longer than the argument `gap_threshold_s` of `check`."""
    takeover_gaps: list[Gap] = attrs.field(factory=list)
    """The gaps that span one of the moments in the argument `takeovers_at` of `check`."""
    first_token_s: list[float] = attrs.field(factory=list)
    """The time from the acceptance of each request to its first token."""
    strikes: dict[str, int] = attrs.field(factory=dict)
    """How often each fault struck, by its name."""
    examples: list[str] = attrs.field(factory=list)
    """A sentence for each of the first few broken promises of each kind."""

    @property
    def broken(self) -> dict[str, int]:
        """The number of broken promises by kind. Empty if every promise was kept."""
        return {kind: count for kind in _BROKEN if (count := getattr(self, kind))}

    def __str__(self) -> str:
        faults = ", ".join(f"{count:,} {name}" for name, count in self.strikes.items()) or "none"
        parts = [
            f"faults: {faults}",
            f"requests {self.accepted:,} accepted, {self.ended_once:,} ended once",
            f"tokens {self.tokens:,}",
            f"lost requests {self.lost_requests:,}",
            f"lost {self.lost:,}",
            f"repeated {self.repeated:,}",
            f"wrong {self.wrong:,}",
        ]
        parts += [f"takeover gap {_gaps(self.takeover_gaps)}"] if self.takeover_gaps else []
        details: list[tuple[str, Mapping[str, int]]] = [
            ("BROKEN", self.broken),
            ("explicit failures", self.failures),
            ("refused", self.refused),
            ("unknown", self.unknown),
            ("errors while following", self.http_errors),
        ]
        lines = [
            " · ".join(parts),
            f"reconnects {self.reconnects:,} · logs read again {self.replays:,} · all gaps {_gaps(self.gaps)}",
        ]
        lines += [f"{name}: {_counts(counts)}" for name, counts in details if counts]
        return "\n  ".join([*lines, *self.examples])

    def complain(self, kind: str, request: RequestHistory, detail: str, count: int = 1) -> None:
        """Counts `count` broken promises of one kind, and keeps the first few of the kind as examples."""
        if count <= 0:
            return
        setattr(self, kind, getattr(self, kind) + count)
        if sum(example.startswith(f"{kind} ") for example in self.examples) < _EXAMPLES:
            self.examples.append(f"{kind} {count}: {request.id} ({request.prompt!r}): {detail}")


def check(
    history: History,
    oracle: Oracle = mock_answer,
    observer: KeyObserver | None = None,
    *,
    gap_threshold_s: float = 0.25,
    strikes: Mapping[str, int] | None = None,
    takeovers_at: Sequence[float] = (),
    usage: UsageSeen | None = None,
    forgets: bool = False,
) -> CheckReport:
    """Judges a whole history after its load has ended: a request that is still open counts as lost.

    Args:
        history: What the clients of one load saw.
        oracle: The right answers.
        observer: Looks for keys that the load left in the store; None: nobody looks.
        gap_threshold_s: Shorter gaps are left out of the report.
        strikes: How often each fault struck, for the printed report: `nemeses.strikes`.
        usage: What Redis says of the usage of these requests; None: nobody looks.
        forgets: Whether the store lost what it had acknowledged. A client may then be told that there is no such
            stream, which is counted as the failure `NOT_FOUND`, and not as a lost request. And a log that is read again
            after its end may be shorter, and end with `INTERRUPTED`.
        takeovers_at: When the faults struck whose gaps are listed as `takeover_gaps`: `nemeses.moments`.
    """
    gaps = history.gaps(gap_threshold_s)
    report = CheckReport(
        accepted=len(history.requests),
        refused=history.refused,
        unknown=history.unknown,
        http_errors=history.http_errors,
        gaps=gaps,
        takeover_gaps=gaps_at(gaps, takeovers_at),
        strikes=dict(strikes or {}),
    )
    ids = Counter(request.id for request in history.requests)
    for request in history.requests:
        _check_request(report, request, oracle(request), forgets=forgets)
        report.complain("foreign", request, "its id was given to another request too", ids[request.id] > 1)
    if usage is not None:
        logged = {request.id: request.ends[0].seq - 1 for request in history.requests if request.ends}
        found = usage.differences(logged)
        report.misrecorded = len(found)
        report.examples += [f"misrecorded: {each}" for each in found[:10]]
    if observer is not None:
        left = observer.keys_left()
        report.keys_left = len(left)
        report.examples += [f"key left: {key}" for key in left[:10]]
    return report


def _check_request(
    report: CheckReport, request: RequestHistory, answer: Sequence[str] | None, *, forgets: bool
) -> None:
    report.reconnects += request.reconnects
    if request.tokens and request.accepted_at is not None:
        report.first_token_s.append(request.tokens[0].at - request.accepted_at)
    right = _check_tokens(report, request, answer)
    report.tokens += len(right)
    if forgets and request.gone == _NOT_FOUND and not request.ends:
        report.ended_once += 1
        report.failures["NOT_FOUND"] += 1
    else:
        _check_ends(report, request, answer, right)
    report.complain("foreign", request, "events of another stream", request.foreign)
    report.complain("after_end", request, "tokens after the end", request.tokens_after_end)
    if (again := request.replay) is not None:
        report.replays += 1
        if forgets and _is_shortened(again, request):
            report.failures["INTERRUPTED"] += 1
        elif _content(again) != _content(request):
            report.complain("replays_differ", request, f"{again!r} after {request!r}")


def _check_tokens(report: CheckReport, request: RequestHistory, answer: Sequence[str] | None) -> set[int]:
    """Judges the tokens of one request, and returns the seqs of the right ones."""
    seen: dict[int, str] = {}
    right: set[int] = set()
    highest = 0
    for seq, text, _ in request.tokens:
        if seq in seen:
            report.complain("repeated", request, f"seq {seq} came again")
            report.complain("wrong", request, f"seq {seq} was {seen[seq]!r}, then {text!r}", seen[seq] != text)
            continue
        seen[seq] = text
        report.complain("disordered", request, f"seq {seq} came after {highest}", seq < highest)
        highest = max(highest, seq)
        if seq < 1 or (answer is not None and (seq > len(answer) or answer[seq - 1] != text)):
            expected = answer[seq - 1] if answer and 1 <= seq <= len(answer) else None
            report.complain("wrong", request, f"seq {seq} is {text!r}, not {expected!r}")
        else:
            right.add(seq)
    return right


def _check_ends(report: CheckReport, request: RequestHistory, answer: Sequence[str] | None, right: set[int]) -> None:
    highest = max((token.seq for token in request.tokens), default=0)
    seen = len({token.seq for token in request.tokens if token.seq >= 1})
    if not request.ends:
        detail = f"no end after seq {highest}" + (f", answered {request.gone}" if request.gone else "")
        report.complain("lost_requests", request, detail)
        report.complain("lost", request, f"holes below seq {highest}", highest - seen)
        return
    end = request.ends[0]
    report.ended_once += len(request.ends) == 1
    report.complain("second_ends", request, f"{[each.name for each in request.ends]}", len(request.ends) - 1)
    if end.name == "done":
        report.finished += 1
        length = highest if answer is None else max(highest, len(answer))
        # If the right answer is unknown, only the seq of `done` shows that the last tokens are missing.
        length = max(length, end.seq - 1) if answer is None else length
        said = end.completion_tokens
        fits = end.seq == highest + 1 and (said is None or said == len(right) or answer is None)
    else:
        report.failures[end.code or "?"] += 1
        length = max(highest, end.seq - 1)
        fits = end.name == "error" and bool(end.code) and end.seq > highest
    report.complain("lost", request, f"{seen} of {length} tokens", length - seen)
    report.complain("wrong_ends", request, f"{end} after seq {highest}", not fits)


def _is_shortened(again: RequestHistory, request: RequestHistory) -> bool:
    """Whether a second reading has the first tokens of the first one, and then an error that says so."""
    tokens, first = _content(again)[0], _content(request)[0]
    return [end.code for end in again.ends] == ["INTERRUPTED"] and tokens.items() <= first.items()


def _content(request: RequestHistory) -> tuple[dict[int, str], list[tuple[str, int, str]]]:
    tokens = {token.seq: token.text for token in request.tokens}
    return tokens, [(end.name, end.seq, end.code) for end in request.ends]


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """The exact p50, p99 and maximum of `values` by the nearest-rank method; empty if there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {
        "p50": ordered[math.ceil(0.5 * len(ordered)) - 1],
        "p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max": ordered[-1],
    }


def gaps_at(gaps: Iterable[Gap], moments: Sequence[float], *, slack_s: float = 0.1) -> list[Gap]:
    """The gaps that span one of `moments` or begin up to `slack_s` after one: the effect of faults at these moments."""
    return [gap for gap in gaps if any(gap.begun - slack_s <= moment <= gap.ended for moment in moments)]


def _gaps(gaps: Sequence[Gap]) -> str:
    found = percentiles([gap.seconds for gap in gaps])
    return (
        " ".join(f"{name} {value:.2f} s" for name, value in found.items()) + f" of {len(gaps):,}" if found else "none"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
