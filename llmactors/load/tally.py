"""The counts and distributions over all answers. Pure. The size is bounded, however many answers there are."""

import itertools
from array import array
from collections import Counter
from collections.abc import Sequence

import attrs

from llmactors.load.histogram import Histogram
from llmactors.load.token_times import TokenTimes

MAX_EXAMPLES = 5
MAX_ARRIVALS = 4_000_000
"""How many times of tokens are kept, with 8 bytes each. A longer run has no figures of the steady state."""


@attrs.define
class Tally:
    """The counts and distributions of one run. Times are in seconds."""

    correct: int = 0
    tokens: int = 0
    interrupted: int = 0
    """Requests that were under way when somebody stopped the run. Such requests do not count as failures."""
    latency: Histogram = attrs.field(factory=Histogram)
    ttft: Histogram = attrs.field(factory=Histogram)
    token_gap: Histogram = attrs.field(factory=Histogram)
    """The time between consecutive tokens of a stream; 0 for tokens that came in one read."""
    read_gap: Histogram = attrs.field(factory=Histogram)
    """The time between consecutive reads that brought tokens of a stream."""
    per_chunk: Histogram = attrs.field(factory=Histogram)
    refusal: Histogram = attrs.field(factory=Histogram)
    """The time from a request to the end of the answer that refused it: 429, 503, 529."""
    errors: Counter[str] = attrs.field(factory=Counter)
    """Failures by their class."""
    codes: Counter[str] = attrs.field(factory=Counter)
    """Failures by their class and the server's own code, where the server sends one."""
    examples: list[str] = attrs.field(factory=list)
    by_second: dict[int, Counter[str]] = attrs.field(factory=dict)
    """The requests that ended in each second of the run."""
    _arrivals: list["array[float]"] = attrs.field(factory=list)
    """The times of the tokens of each answer."""
    _kept: int = 0

    @property
    def failed(self) -> int:
        return self.errors.total()

    def fail(self, kind: str, detail: str, *, at: float, code: str = "") -> None:
        """Counts a failure `at` seconds into the run."""
        self.errors[kind] += 1
        if code:
            self.codes[f"{kind} {code}"] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{kind}: {detail}"[:300])
        self._second(at)[kind] += 1

    def succeed(self, token_times: TokenTimes, *, begun: float, ended: float, at: float) -> None:
        """Counts a right answer that ended `at` seconds into the run."""
        self.correct += 1
        self.tokens += token_times.tokens
        self.latency.record(ended - begun)
        second = self._second(at)
        second["correct"] += 1
        second["tokens"] += token_times.tokens
        times = token_times.times
        if not times:
            return
        self.ttft.record(times[0] - begun)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        self.token_gap.add(gaps)
        self.read_gap.add(gap for gap in gaps if gap > 0)
        self.per_chunk.add(token_times.per_chunk)
        self._kept += len(times)
        if self._kept <= MAX_ARRIVALS:
            self._arrivals.append(array("d", times))
        else:
            self._arrivals.clear()

    def steady_gap(self) -> Histogram:
        """The gaps between tokens while all streams run: after the last stream has begun, before the first one ends.

        Empty where there is no such time, as in a closed loop with several requests per client.
        """
        steady = Histogram()
        begun = max((times[0] for times in self._arrivals), default=0.0)
        ended = min((times[-1] for times in self._arrivals), default=0.0)
        for times in self._arrivals if begun < ended else ():
            inside = [time for time in times if begun <= time <= ended]
            steady.add(later - earlier for earlier, later in itertools.pairwise(inside))
        return steady

    def timeline(self) -> Sequence[dict[str, int]]:
        """One entry for each second in which a request ended: `second`, `correct`, `tokens` and failures by class."""
        return [{"second": second, **counts} for second, counts in sorted(self.by_second.items())]

    def _second(self, at: float) -> Counter[str]:
        return self.by_second.setdefault(int(max(0.0, at)), Counter())
