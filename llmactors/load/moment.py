"""How far a run has come, for whoever watches it."""

import attrs


@attrs.frozen
class Moment:
    """One look at a run, four times a second."""

    seconds: float
    ended: int
    failed: int
    """So far: what is checked afterwards may still turn out wrong."""
    in_flight: int
    waiting: int
    """Arrivals that no connection was free for."""
    received_bytes: int
    p50_s: float
    p99_s: float
