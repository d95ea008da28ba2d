"""How far a run has come."""

import attrs


@attrs.frozen
class RunSnapshot:
    """The state of a run, taken four times a second."""

    seconds: float
    ended: int
    failed: int
    """Requests known to have failed; the check after the run may find more."""
    in_flight: int
    waiting: int
    """Arrivals for which no connection was free."""
    received_bytes: int
    p50_s: float
    p99_s: float
