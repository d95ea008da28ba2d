"""The sixteen faults: what the provider does, and what a gateway has to do about it. Pure.

The checks and their limits are those of failoverbench's catalogue 0.1. A profile shortens all times by one factor.
"""

from collections.abc import Callable

import attrs

from bench.failover.grading import Check, Observed
from bench.failover.profiles import Profile

ANSWER = " ".join(f"word{number}" for number in range(1, 61))
"""What every healthy answer says: sixty tokens, as in failoverbench."""
PROMPT = "Say the sixty words."
OK = "fb-ok"
OK_WITHOUT_PREFILL = "fb-ok-noprefill"


RETRY_AFTER_S = 2.0
SLOW_FIRST_S = 20.0
STALL_S = 30.0
NO_RESPONSE_S = 120.0
OUTAGE_S = 60.0
CUT_AFTER = 40
STALL_AFTER = 20
MALFORMED_AT = 10


@attrs.frozen(kw_only=True)
class Scenario:
    """One fault."""

    name: str
    title: str
    model: str
    """The provider's model, whose name chooses the fault."""
    max_wall_s: float
    checks: tuple[Check, ...]
    prefills: bool = True
    """Whether the fallback takes a message of the assistant at the end of a chat."""
    wants_error: bool = False
    """Whether the caller is to get a clean error, and not an answer."""
    count: int = 1
    """How many calls the caller makes."""
    interval_s: float = 0.0
    """From one call to the next."""

    @property
    def fallback(self) -> str:
        """The provider's model that works: one of its own for each fault, so that its requests can be told apart."""
        return f"{OK if self.prefills else OK_WITHOUT_PREFILL}-{self.name}"


def _required(name: str, holds: Callable[[Observed, Profile], bool]) -> Check:
    return Check(name, holds)


def _advisory(name: str, holds: Callable[[Observed, Profile], bool]) -> Check:
    return Check(name, holds, is_advisory=True)


def _within(limit_s: float) -> Callable[[Observed, Profile], bool]:
    return lambda seen, profile: seen.elapsed_s <= profile.scaled(limit_s) + profile.slack_s


def _attempts_within(window_s: float, most: int) -> Callable[[Observed, Profile], bool]:
    return lambda seen, profile: seen.attempts_within(profile.scaled(window_s)) <= most


def _first_gap(seen: Observed, profile: Profile) -> bool:
    gap_s = seen.first_gap_s
    return gap_s is not None and gap_s >= profile.scaled(1.8)


_NO_HANG = _required("no_hang", lambda seen, _: not seen.hung)
_NO_TRUNCATION = _required("no_truncated_success", lambda seen, _: not seen.succeeded or seen.is_complete)
_BOUNDED = _required("bounded_attempts", lambda seen, _: len(seen.primary_at_s) <= 6)
_ONCE = _required("no_same_model_retry", lambda seen, _: len(seen.primary_at_s) == 1)
_ALIVE = _required("alive_after", lambda seen, _: seen.alive_after)
_USAGE = _advisory("usage_present", lambda seen, _: seen.has_usage)

SCENARIOS = (
    Scenario(
        name="S01",
        title="429 with Retry-After",
        model="fb-s01-429-retry-after",
        max_wall_s=20,
        checks=(
            _advisory("retried", lambda seen, _: len(seen.primary_at_s) >= 2),
            _advisory("retry_after_honoured", _first_gap),
            _required("no_hammer", _attempts_within(1.5, 2)),
        ),
    ),
    Scenario(
        name="S02",
        title="429 without Retry-After, persistent",
        model="fb-s02-429-persistent",
        max_wall_s=40,
        checks=(_required("no_hammer", _attempts_within(3, 4)), _BOUNDED, _NO_HANG),
    ),
    Scenario(
        name="S03",
        title="500 once, then healthy",
        model="fb-s03-500-then-200",
        max_wall_s=20,
        checks=(_NO_HANG, _advisory("same_provider_retry", lambda seen, _: len(seen.primary_at_s) >= 2)),
    ),
    Scenario(
        name="S04",
        title="503 persistent",
        model="fb-s04-503-persistent",
        max_wall_s=40,
        checks=(_BOUNDED, _NO_HANG),
    ),
    Scenario(name="S05", title="TCP reset before headers", model="fb-s05-reset", max_wall_s=20, checks=(_NO_HANG,)),
    Scenario(
        name="S06",
        title="No response at all",
        model="fb-s06-no-response",
        max_wall_s=130,
        checks=(
            _required("within_budget", _within(100)),
            _NO_HANG,
            _advisory("silent_route_not_retried", lambda seen, _: len(seen.primary_at_s) <= 1),
        ),
    ),
    Scenario(
        name="S07",
        title="Slow first token",
        model="fb-s07-slow-ttft",
        max_wall_s=60,
        checks=(_NO_HANG, _advisory("ttft_limit", _within(15))),
    ),
    Scenario(
        name="S08",
        title="Stream cut mid-answer",
        model="fb-s08-stream-cut",
        max_wall_s=40,
        checks=(_NO_TRUNCATION, _NO_HANG),
    ),
    Scenario(
        name="S09",
        title="Stream stalls",
        model="fb-s09-stream-stall",
        max_wall_s=70,
        checks=(_required("bounded", _within(45)), _NO_TRUNCATION, _ALIVE, _NO_HANG),
    ),
    Scenario(
        name="S10",
        title="Malformed chunk in the stream",
        model="fb-s10-malformed-chunk",
        max_wall_s=30,
        checks=(
            _ALIVE,
            _NO_TRUNCATION,
            _NO_HANG,
            _advisory("recovered_in_place", lambda seen, _: seen.succeeded and seen.is_complete),
        ),
    ),
    Scenario(
        name="S11",
        title="Stream ends without [DONE]",
        model="fb-s11-no-done",
        max_wall_s=30,
        checks=(_required("prompt_finalise", _within(8)), _USAGE),
    ),
    Scenario(
        name="S12",
        title="Context length exceeded",
        model="fb-s12-context-length",
        max_wall_s=20,
        checks=(_ONCE, _NO_HANG),
    ),
    Scenario(
        name="S13",
        title="Content-filter rejection",
        model="fb-s13-content-filter",
        max_wall_s=20,
        checks=(_ONCE, _NO_HANG),
        wants_error=True,
    ),
    Scenario(
        name="S14",
        title="Fallback target rejects prefill",
        model="fb-s14-stream-cut",
        prefills=False,
        max_wall_s=40,
        checks=(
            _required("no_prefill_masking", lambda seen, _: seen.succeeded or not seen.shows_prefill_error),
            _NO_TRUNCATION,
        ),
    ),
    Scenario(
        name="S15",
        title="Primary flaps: down, then healthy",
        model="fb-s15-flap",
        max_wall_s=30,
        count=20,
        interval_s=4,
        checks=(
            _NO_HANG,
            _required("served_during_outage", lambda seen, _: seen.served_during_outage),
            _required(
                "recovered",
                lambda seen, profile: (
                    seen.recovered_after_s is not None
                    and seen.recovered_after_s <= profile.scaled_outage(30) + profile.slack_s
                ),
            ),
        ),
    ),
    Scenario(
        name="S16",
        title="Fail-over accounting",
        model="fb-s16-503-persistent",
        max_wall_s=40,
        checks=(
            _required("reports_fallback_model", lambda seen, _: not seen.fallback_at_s or OK in (seen.model or "")),
            _USAGE,
            _BOUNDED,
        ),
    ),
)
