"""The messages to a batcher. Those of the backend are declared in `backends/messages.py`."""

import attrs

from llmactors.actors import Question
from llmactors.backends.messages import BatcherNews


@attrs.frozen
class DrainBatcher(Question[None]):
    """Asks a batcher to hand back everything and to claim no more, because its node is to end.

    The reply comes once the batcher holds no claim. Other workers continue the requests from their logs.
    """


@attrs.frozen
class CordonChanged:
    """Tells a batcher that its node takes no work from now on, or takes work again."""


@attrs.frozen
class SlotsFreed:
    """From the batcher's own tasks: requests have ended or were dropped, so slots may be free."""


@attrs.frozen
class BatchDue:
    """From the batcher's own timer: the window of a static batch is over."""


BatcherMessage = SlotsFreed | BatchDue | DrainBatcher | CordonChanged | BatcherNews
"""All messages that a batcher takes."""
