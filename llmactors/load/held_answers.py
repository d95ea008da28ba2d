"""Complete answers that are checked after the run, or while it runs where they would take too much memory. Pure."""

from collections import deque

from llmactors.load.check import check
from llmactors.load.histogram import Histogram
from llmactors.load.plan import Plan
from llmactors.load.recording import Malformed, Recording
from llmactors.load.snapshot import RunSnapshot
from llmactors.load.tally import Tally

HOLD_BYTES = 64 << 20
"""Beyond this size, held answers are checked one by one while the clock runs; the report says how many."""


class HeldAnswers:
    """The recordings that wait for their check, and the tally of all requests that have ended.

    Args:
        plan: The plan of the run.
    """

    def __init__(self, plan: Plan) -> None:
        self.begun = 0.0
        """When the run began."""
        self.tally = Tally()
        self.checked_early = 0
        """How many answers were checked while the clock ran."""
        self._plan = plan
        self._recordings: deque[Recording] = deque()
        self._held_bytes = 0
        self._latency = Histogram()
        """The latencies of all complete answers, whether checked or not."""

    def __repr__(self) -> str:
        return f"<HeldAnswers {len(self._recordings)}, {self._held_bytes} bytes>"

    def hold(self, recording: Recording) -> None:
        """Holds the recording of a complete answer, and checks the oldest ones where they take too much memory."""
        self._recordings.append(recording)
        self._held_bytes += recording.held_bytes
        self._latency.record(recording.ended - recording.begun)
        while self._held_bytes > HOLD_BYTES:
            self._check_one()
            self.checked_early += 1

    def snapshot(self, seconds: float, in_flight: int, waiting: int, received_bytes: int) -> RunSnapshot:
        """The state of the run, `seconds` after its beginning."""
        latency, failed = self._latency, self.tally.failed
        ended = len(self._recordings) + self.tally.correct + failed
        p50_s, p99_s = (latency.at(share) if latency.count else 0.0 for share in (0.5, 0.99))
        return RunSnapshot(seconds, ended, failed, in_flight, waiting, received_bytes, p50_s, p99_s)

    def check(self) -> None:
        """Checks all answers that are held."""
        while self._recordings:
            self._check_one()

    def fail(self, kind: str, detail: str, now: float) -> None:
        """Counts a request that failed without a complete answer."""
        self.tally.fail(kind, detail, at=now - self.begun)

    def _check_one(self) -> None:
        recording = self._recordings.popleft()
        self._held_bytes -= recording.held_bytes
        at = recording.ended - self.begun
        try:
            token_times = check(self._plan, recording)
        except Malformed as wrong:
            self.tally.fail(wrong.kind, f"request {recording.index}: {wrong.detail}", at=at, code=wrong.code)
            if wrong.refusal:
                self.tally.refusal.record(recording.ended - recording.begun)
        else:
            self.tally.succeed(token_times, begun=recording.begun, ended=recording.ended, at=at)
