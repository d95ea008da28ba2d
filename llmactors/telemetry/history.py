"""The figures of the last hour, in steps of 10 seconds, from the counts that the metrics keep anyway. Pure.

Each node counts from its start, and shows the counts in its record. A gateway therefore knows the counts of all nodes,
and its history is that of the whole cluster. What happened in a step is the difference of two counts, so nothing costs
more for each token or request.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import attrs

from llmactors.telemetry.histograms import quantile
from llmactors.telemetry.instruments import GAP_SECONDS, LONG_SECONDS

STEP_S = 10.0
STEPS = 360
NODES_MAX = 1000
"""The most nodes whose last counts are remembered."""
_LATE = 1.5
"""A step that took this many times `STEP_S` stands for several steps, of which all but the last are unknown."""


@attrs.frozen
class Counts:
    """What a node has counted since its start."""

    tokens: int = 0
    """The tokens that backends made."""
    requests: int = 0
    """The requests that clients got an answer to, which may be an error."""
    ttft: tuple[int, ...] = ()
    """The times to the first token, by the buckets of `LONG_SECONDS`, the last of which has no bound."""
    inter_token: tuple[int, ...] = ()
    """The times between tokens, by the buckets of `GAP_SECONDS`."""
    queue_wait: tuple[int, ...] = ()
    """The times in the queue, by the buckets of `LONG_SECONDS`."""
    refusals: Mapping[str, int] = attrs.field(factory=dict)
    """The requests that ended in an error, by its code."""


@attrs.frozen
class NodeCounts:
    """The counts of one start of a node."""

    incarnation: str
    counts: Counts
    is_new: bool
    """Whether the node started so recently that all of its counts belong to this step."""


@attrs.frozen(kw_only=True)
class Series:
    """One value for each step, oldest first. None: nothing was measured in the step."""

    tokens_per_s: list[float | None]
    requests_per_s: list[float | None]
    ttft_p50_s: list[float | None]
    ttft_p99_s: list[float | None]
    inter_token_p50_s: list[float | None]
    inter_token_p99_s: list[float | None]
    queue_wait_p50_s: list[float | None]
    queue_wait_p99_s: list[float | None]
    running: list[float | None]
    waiting: list[float | None]
    refusals: dict[str, list[int | None]]
    """The requests that ended in an error in each step, by its code."""


@attrs.frozen
class LastHourView:
    """The history as it is shown."""

    step_s: float
    from_unix_s: float
    """When the first step began."""
    series: Series


@attrs.frozen
class _Step:
    values: tuple[float | None, ...]
    """In the order of the fields of `Series`, without the refusals."""
    refusals: Mapping[str, int]


_NAMES = [field.name for field in attrs.fields(Series) if field.name != "refusals"]
_UNKNOWN = _Step((None,) * len(_NAMES), {})


class LastHour:
    """A ring of the last `STEPS` steps. Its memory is bounded by the number of steps, error codes and nodes."""

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque(maxlen=STEPS)
        self._before: dict[str, Counts] = {}
        self._last_unix_s: float | None = None

    def __repr__(self) -> str:
        return f"<LastHour of {len(self._steps)} steps>"

    def take(self, nodes: Sequence[NodeCounts], *, running: int | None, waiting: int | None, unix_s: float) -> None:
        """Ends a step at `unix_s`, in seconds since 1970. The first call begins the first step.

        `running` and `waiting` are how many requests run and wait now; None where nobody knows.
        """
        elapsed_s = None if self._last_unix_s is None else unix_s - self._last_unix_s
        self._last_unix_s = unix_s
        grown = self._grown(nodes)
        if elapsed_s is None:
            return
        if not 0 < elapsed_s < STEP_S * _LATE:  # the clock was set, or the process did not run
            missed = min(STEPS, max(0, round(elapsed_s / STEP_S) - 1))
            self._steps.extend([_UNKNOWN] * missed)
        self._steps.append(_step(grown, max(elapsed_s, 0.001), running, waiting))

    def view(self, unix_s: float) -> LastHourView:
        """All steps that have ended. `unix_s` is the time now, in seconds since 1970."""
        steps = [*self._steps]
        last_unix_s = unix_s if self._last_unix_s is None else self._last_unix_s
        columns = {name: [step.values[place] for step in steps] for place, name in enumerate(_NAMES)}
        codes = sorted({code for step in steps for code in step.refusals})
        refusals = {
            code: [None if step is _UNKNOWN else step.refusals.get(code, 0) for step in steps] for code in codes
        }
        return LastHourView(STEP_S, last_unix_s - STEP_S * len(steps), Series(**columns, refusals=refusals))

    def _grown(self, nodes: Sequence[NodeCounts]) -> list[Counts]:
        """What each node has counted since the last call."""
        found = []
        for node in nodes:
            before = self._before.pop(node.incarnation, Counts() if node.is_new else node.counts)
            self._before[node.incarnation] = node.counts  # put in at the end: the first ones are those that have gone
            found.append(_difference(node.counts, before))
        while len(self._before) > NODES_MAX:
            del self._before[next(iter(self._before))]
        return found


def _difference(now: Counts, before: Counts) -> Counts:
    def less(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(a - b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else one

    return Counts(
        now.tokens - before.tokens,
        now.requests - before.requests,
        less(now.ttft, before.ttft),
        less(now.inter_token, before.inter_token),
        less(now.queue_wait, before.queue_wait),
        {code: count - before.refusals.get(code, 0) for code, count in now.refusals.items()},
    )


def _step(grown: Sequence[Counts], elapsed_s: float, running: int | None, waiting: int | None) -> _Step:
    percentiles: list[float | None] = []
    of: Sequence[tuple[Callable[[Counts], tuple[int, ...]], Sequence[float]]] = (
        (lambda counts: counts.ttft, LONG_SECONDS),
        (lambda counts: counts.inter_token, GAP_SECONDS),
        (lambda counts: counts.queue_wait, LONG_SECONDS),
    )
    for read, bounds in of:
        buckets = _add_up([read(counts) for counts in grown], len(bounds) + 1)
        for fraction in (0.5, 0.99):
            value = quantile(bounds, buckets, fraction)
            percentiles.append(None if value is None else round(value, 4))
    refusals: dict[str, int] = {}
    for counts in grown:
        for code, count in counts.refusals.items():
            if count > 0:
                refusals[code] = refusals.get(code, 0) + count
    tokens_per_s = round(sum(counts.tokens for counts in grown) / elapsed_s, 2)
    requests_per_s = round(sum(counts.requests for counts in grown) / elapsed_s, 3)
    return _Step((tokens_per_s, requests_per_s, *percentiles, running, waiting), refusals)


def _add_up(vectors: Sequence[tuple[int, ...]], length: int) -> list[int]:
    """The sums of the buckets. A node of another version may have other buckets, and is left out."""
    return [sum(column) for column in zip(*[each for each in vectors if len(each) == length], strict=True)]
