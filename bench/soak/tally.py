"""The count of all answers of a run, and of everything that was wrong with them."""

import time
from collections import Counter

import attrs

from llmactors.testing.checker import CheckReport

FAULT_LASTS_S = 20.0
"""For this long after a fault, a node may answer with 503 or cut a connection."""
_MOST_EXAMPLES = 20
POISONED = "POISONED"


@attrs.frozen
class ServerError:
    """An answer with a status of 500 or more."""

    kind: str
    status: int
    code: str
    since_fault_s: float
    """How long ago the last fault was."""

    @property
    def is_explained(self) -> bool:
        """Whether a fault explains the answer."""
        return self.status == 503 and self.since_fault_s <= FAULT_LASTS_S


@attrs.define
class Tally:
    """What the clients of one form saw."""

    right: Counter[str] = attrs.field(factory=Counter)
    """Right and complete answers, by kind of client. An answer that its client gave up is right if it began right."""
    tokens: int = 0
    lost: Counter[str] = attrs.field(factory=Counter)
    """Accepted requests without an end, and tokens that are missing in a complete answer, by kind."""
    repeated: Counter[str] = attrs.field(factory=Counter)
    wrong: Counter[str] = attrs.field(factory=Counter)
    """Answers with a wrong text, order, end or id, by kind."""
    refused: Counter[str] = attrs.field(factory=Counter)
    """Answers with a status of 400 or more to requests that were right, by kind, status and code."""
    cuts: Counter[str] = attrs.field(factory=Counter)
    """Connections that ended too early, by kind."""
    server_errors: list[ServerError] = attrs.field(factory=list)
    convicted: int = 0
    """Requests that were made to crash the model and were convicted of that."""
    innocents_convicted: int = 0
    nonsense: Counter[int] = attrs.field(factory=Counter)
    """The responses to malformed requests, by status; 0: none."""
    faults: Counter[str] = attrs.field(factory=Counter)
    examples: list[str] = attrs.field(factory=list)
    _fault_at: float = -1e9

    def fault(self, name: str) -> None:
        """Note that a fault begins, or ends."""
        self._fault_at = time.monotonic()
        if name:
            self.faults[name] += 1

    def refuse(self, kind: str, status: int, code: str) -> None:
        """Count an answer that is an error."""
        self.refused[f"{kind}: {status} {code}".rstrip()] += 1
        if status >= 500:
            self.server_errors.append(ServerError(kind, status, code, time.monotonic() - self._fault_at))
        self.innocents_convicted += code.upper() == POISONED

    def complain(self, counter: Counter[str], kind: str, detail: str, count: int = 1) -> None:
        """Count something that must never happen, and keep the first few details."""
        counter[kind] += count
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{kind}: {detail}")

    def judge_text(self, kind: str, text: str, answer: str, *, whole: bool) -> bool:
        """Compare a text with the right answer, or with its beginning; return whether it is right."""
        self.tokens += text.count(" ")
        if text == answer or (not whole and answer.startswith(text)):
            self.right[kind] += 1
            return True
        got, wanted = text.split(), answer.split()
        if len(set(got)) < len(got):
            self.complain(self.repeated, kind, f"{text!r} instead of {answer!r}")
        elif set(got) < set(wanted):
            self.complain(self.lost, kind, f"{text!r} instead of {answer!r}", len(wanted) - len(got))
        else:
            self.complain(self.wrong, kind, f"{text!r} instead of {answer!r}")
        return False

    def take(self, kind: str, report: CheckReport) -> None:
        """Add the judgement on some native streams."""
        self.right[kind] += report.finished
        self.tokens += report.tokens
        self.lost[kind] += report.lost + report.lost_requests
        self.repeated[kind] += report.repeated + report.second_ends
        wrong = ("disordered", "wrong", "wrong_ends", "after_end", "foreign", "replays_differ")
        self.wrong[kind] += sum(getattr(report, name) for name in wrong)
        self.cuts[kind] += report.reconnects
        for code, count in report.failures.items():
            for _ in range(count):
                self.refuse(kind, 500, code)
        self.examples += report.examples[: _MOST_EXAMPLES - len(self.examples)]

    @property
    def broken(self) -> dict[str, int]:
        """What must never happen, and happened."""
        counts = {
            "lost": self.lost.total(),
            "repeated": self.repeated.total(),
            "wrong": self.wrong.total(),
            "unexplained 5xx": sum(not error.is_explained for error in self.server_errors),
            "innocents convicted": self.innocents_convicted,
        }
        return {name: count for name, count in counts.items() if count}
