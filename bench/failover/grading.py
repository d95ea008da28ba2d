"""From what the caller and the provider saw of one fault to a grade. Pure.

pass     the caller got what it is to get, and every check holds
partial  the caller got it, but an advisory check does not hold, or a rejection was routed around
safe     the caller got a clean error in time, and every required check holds
fail     a required check does not hold, the call hung, or a cut answer looked complete
"""

import enum
from collections.abc import Callable, Sequence

import attrs

from bench.failover.profiles import Profile


class Grade(enum.Enum):
    """The grade of one fault, in failoverbench's words."""

    PASS = "pass"
    PARTIAL = "partial"
    SAFE = "safe"
    FAIL = "fail"


class Outcome(enum.Enum):
    """How a call ended."""

    SUCCESS = "success"
    ERROR = "error"
    HANG = "hang"


@attrs.frozen(kw_only=True)
class Call:
    """What the caller saw of one call."""

    sent_at_s: float
    """Since the fault began."""
    outcome: Outcome
    elapsed_s: float
    is_complete: bool = False
    """Whether the text is the whole answer."""
    words: int = 0
    error: str = ""
    model: str | None = None
    has_usage: bool = False


@attrs.frozen(kw_only=True)
class Observed:
    """Everything that was seen of one fault."""

    calls: Sequence[Call]
    primary_at_s: Sequence[float]
    """When each request reached the provider's model, since the fault began."""
    primary_answered_at_s: Sequence[float] = ()
    """Those of the requests that the provider answered in full."""
    fallback_at_s: Sequence[float] = ()
    prefills_refused: int = 0
    """How many requests the fallback refused because they ended with a part of the answer."""
    alive_after: bool = True
    """Whether the gateway answered another request afterwards."""
    outage_s: float = 0.0
    """How long the provider's model was down."""

    @property
    def hung(self) -> bool:
        """Whether a call did not end in time."""
        return any(call.outcome is Outcome.HANG for call in self.calls)

    @property
    def shows_prefill_error(self) -> bool:
        """Whether the caller was told of a refused prefill, and not of the fault that came before it."""
        return self.prefills_refused > 0 and any("prefill" in call.error for call in self.calls)

    @property
    def succeeded(self) -> bool:
        """Whether every call looked like a success to the caller."""
        return all(call.outcome is Outcome.SUCCESS for call in self.calls)

    @property
    def is_complete(self) -> bool:
        """Whether every call brought the whole answer."""
        return all(call.is_complete for call in self.calls)

    @property
    def elapsed_s(self) -> float:
        """How long the last call took."""
        return self.calls[-1].elapsed_s

    @property
    def model(self) -> str | None:
        """The model that the last answer names."""
        return self.calls[-1].model

    @property
    def has_usage(self) -> bool:
        """Whether the last answer counts its tokens."""
        return self.calls[-1].has_usage

    @property
    def error(self) -> str:
        """The first error."""
        return next((call.error for call in self.calls if call.error), "")

    @property
    def first_gap_s(self) -> float | None:
        """The time from the first to the second request at the provider's model."""
        return self.primary_at_s[1] - self.primary_at_s[0] if len(self.primary_at_s) > 1 else None

    def attempts_within(self, window_s: float) -> int:
        """How many requests reached the provider's model in this time from the first on."""
        return sum(at - self.primary_at_s[0] < window_s for at in self.primary_at_s)

    @property
    def served_during_outage(self) -> bool:
        """Whether every call during the outage was answered, and there was one."""
        during = [call for call in self.calls if call.sent_at_s < self.outage_s]
        return bool(during) and all(call.outcome is Outcome.SUCCESS for call in during)

    @property
    def recovered_after_s(self) -> float | None:
        """How long after the outage the provider's model was used again; None where it never was."""
        return min(self.primary_answered_at_s) - self.outage_s if self.primary_answered_at_s else None


@attrs.frozen
class Check:
    """One thing that a gateway has to do."""

    name: str
    holds: Callable[[Observed, Profile], bool]
    is_advisory: bool = False


@attrs.frozen
class Graded:
    """A grade, and the reason."""

    grade: Grade
    reason: str


def grade_of(seen: Observed, checks: Sequence[Check], profile: Profile, *, wants_error: bool) -> Graded:
    """The grade of what was seen."""
    failed = [check for check in checks if not check.holds(seen, profile)]
    required = [check.name for check in failed if not check.is_advisory]
    if seen.hung or (seen.succeeded and not seen.is_complete and not wants_error):
        return Graded(Grade.FAIL, "a call hung" if seen.hung else "a cut answer looked complete")
    if required:
        return Graded(Grade.FAIL, ", ".join(required))
    if seen.succeeded is wants_error:
        if wants_error:
            return Graded(Grade.PARTIAL, "routed around the rejection")
        return Graded(Grade.SAFE, seen.error)
    return Graded(Grade.PARTIAL if failed else Grade.PASS, ", ".join(check.name for check in failed))
