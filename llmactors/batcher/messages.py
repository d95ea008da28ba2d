"""The messages to a batcher from its node and its own tasks. The backend's are in `backends/messages.py`."""

import attrs


@attrs.frozen
class DrainBatcher:
    """Asks a batcher to hand back everything and to claim no more, because its node is to end.

    The reply comes once the batcher holds no claim. Other workers continue the requests from their logs.
    """


@attrs.frozen
class SlotsFreed:
    """From the batcher's own tasks: requests have ended or were dropped, so slots may be free."""


@attrs.frozen
class BatchDue:
    """From the batcher's own timer: the window of a static batch is over."""
