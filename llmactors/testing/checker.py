"""Whether the promise was kept: each accepted request ended once, with each token once, each the right one. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.testing.history import Gap, History, RequestHistory

Oracle = Callable[[RequestHistory], Sequence[str] | None]
"""The texts of the right answer's tokens; None where they are not known."""

_EXAMPLES = 3
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
)


class KeyObserver(Protocol):
    """Sees what is left in the store."""

    def keys_left(self) -> Sequence[str]:
        """What should be gone, and is not."""


def mock_answer(request: RequestHistory) -> Sequence[str]:
    """The oracle for the mock backend, as long as it ends by `max_tokens` alone."""
    base = sequence_hash(request.prompt, request.seed)
    return [token_of(base, seq).text for seq in range(1, request.max_tokens + 1)]


@attrs.define
class CheckReport:
    """What all requests together amount to. `broken` counts what may never happen."""

    accepted: int = 0
    ended_once: int = 0
    """With one terminal event, whether `done` or an explicit `error`."""
    finished: int = 0
    """With `done`."""
    tokens: int = 0
    """Right ones, each counted once."""
    lost_requests: int = 0
    """Accepted, and without any terminal event."""
    lost: int = 0
    """Tokens that the log must have had and the client never saw."""
    repeated: int = 0
    disordered: int = 0
    """Tokens that came after one with a higher seq."""
    wrong: int = 0
    """Tokens whose text is not the oracle's, or that lie beyond its end."""
    second_ends: int = 0
    wrong_ends: int = 0
    """Terminal events whose seq or usage does not fit the tokens."""
    after_end: int = 0
    foreign: int = 0
    replays: int = 0
    replays_differ: int = 0
    """Logs that read otherwise the second time."""
    keys_left: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    """Explicit `error` ends, by code. Not a loss; whether one may happen depends on the faults."""
    refused: Counter[str] = attrs.field(factory=Counter)
    unknown: Counter[str] = attrs.field(factory=Counter)
    http_errors: Counter[str] = attrs.field(factory=Counter)
    reconnects: int = 0
    gaps: list[Gap] = attrs.field(factory=list)
    """Silences longer than the threshold that `check` was given."""
    takeover_gaps: list[Gap] = attrs.field(factory=list)
    """Those of them that span one of the moments that `check` was given."""
    first_token_s: list[float] = attrs.field(factory=list)
    """From acceptance to the first token."""
    strikes: dict[str, int] = attrs.field(factory=dict)
    """The faults, by name."""
    examples: list[str] = attrs.field(factory=list)

    @property
    def broken(self) -> dict[str, int]:
        """Each kind of broken promise that was seen, and how often. Empty is good."""
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
        """Counts something broken, and keeps the first few of its kind as examples."""
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
) -> CheckReport:
    """Judges a whole history. Call it once the load has settled: what is open then is lost.

    Args:
        history: What the clients of one load saw.
        oracle: The right answers.
        observer: Looks what is left in the store; None looks nowhere.
        gap_threshold_s: Shorter silences are of no interest.
        strikes: The faults by name, to be printed.
        takeovers_at: When faults struck whose gaps are to be told from the others, as in `nemeses.moments`.
    """
    gaps = history.gaps(gap_threshold_s)
    verdict = CheckReport(
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
        _check_request(verdict, request, oracle(request))
        verdict.complain("foreign", request, "its id was given to another request too", ids[request.id] > 1)
    if observer is not None:
        left = observer.keys_left()
        verdict.keys_left = len(left)
        verdict.examples += [f"key left: {key}" for key in left[:10]]
    return verdict


def _check_request(verdict: CheckReport, request: RequestHistory, answer: Sequence[str] | None) -> None:
    verdict.reconnects += request.reconnects
    if request.tokens and request.accepted_at is not None:
        verdict.first_token_s.append(request.tokens[0].at - request.accepted_at)
    right = _check_tokens(verdict, request, answer)
    verdict.tokens += len(right)
    _check_ends(verdict, request, answer, right)
    verdict.complain("foreign", request, "events of another stream", request.foreign)
    verdict.complain("after_end", request, "tokens after the end", request.tokens_after_end)
    if (again := request.replay) is not None:
        verdict.replays += 1
        if _content(again) != _content(request):
            verdict.complain("replays_differ", request, f"{again!r} after {request!r}")


def _check_tokens(verdict: CheckReport, request: RequestHistory, answer: Sequence[str] | None) -> set[int]:
    """The seqs of right tokens."""
    seen: dict[int, str] = {}
    right: set[int] = set()
    highest = 0
    for seq, text, _ in request.tokens:
        if seq in seen:
            verdict.complain("repeated", request, f"seq {seq} came again")
            verdict.complain("wrong", request, f"seq {seq} was {seen[seq]!r}, then {text!r}", seen[seq] != text)
            continue
        seen[seq] = text
        verdict.complain("disordered", request, f"seq {seq} came after {highest}", seq < highest)
        highest = max(highest, seq)
        if seq < 1 or (answer is not None and (seq > len(answer) or answer[seq - 1] != text)):
            expected = answer[seq - 1] if answer and 1 <= seq <= len(answer) else None
            verdict.complain("wrong", request, f"seq {seq} is {text!r}, not {expected!r}")
        else:
            right.add(seq)
    return right


def _check_ends(verdict: CheckReport, request: RequestHistory, answer: Sequence[str] | None, right: set[int]) -> None:
    highest = max((token.seq for token in request.tokens), default=0)
    seen = len({token.seq for token in request.tokens if token.seq >= 1})
    if not request.ends:
        detail = f"no end after seq {highest}" + (f", answered {request.gone}" if request.gone else "")
        verdict.complain("lost_requests", request, detail)
        verdict.complain("lost", request, f"holes below seq {highest}", highest - seen)
        return
    end = request.ends[0]
    verdict.ended_once += len(request.ends) == 1
    verdict.complain("second_ends", request, f"{[each.name for each in request.ends]}", len(request.ends) - 1)
    if end.name == "done":
        verdict.finished += 1
        length = highest if answer is None else max(highest, len(answer))
        # What `done` says counts too: a log that is short in the middle of an unknown answer shows only there.
        length = max(length, end.seq - 1) if answer is None else length
        said = end.completion_tokens
        fits = end.seq == highest + 1 and (said is None or said == len(right) or answer is None)
    else:
        verdict.failures[end.code or "?"] += 1
        length = max(highest, end.seq - 1)
        fits = end.name == "error" and bool(end.code) and end.seq > highest
    verdict.complain("lost", request, f"{seen} of {length} tokens", length - seen)
    verdict.complain("wrong_ends", request, f"{end} after seq {highest}", not fits)


def _content(request: RequestHistory) -> tuple[dict[int, str], list[tuple[str, int, str]]]:
    tokens = {token.seq: token.text for token in request.tokens}
    return tokens, [(end.name, end.seq, end.code) for end in request.ends]


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p99 and the largest, exact, by nearest rank; empty where there is nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {
        "p50": ordered[math.ceil(0.5 * len(ordered)) - 1],
        "p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max": ordered[-1],
    }


def gaps_at(gaps: Iterable[Gap], moments: Sequence[float], *, slack_s: float = 0.1) -> list[Gap]:
    """Those that span one of `moments`, give or take: what clients saw of the faults that struck then."""
    return [gap for gap in gaps if any(gap.begun - slack_s <= moment <= gap.ended for moment in moments)]


def _gaps(gaps: Sequence[Gap]) -> str:
    found = percentiles([gap.seconds for gap in gaps])
    return (
        " ".join(f"{name} {value:.2f} s" for name, value in found.items()) + f" of {len(gaps):,}" if found else "none"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
