"""What a backend can take now, and which requests it cannot take at all. Pure."""

import msgspec

from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.errors import Interrupted, LlmactorsError
from llmactors.ledger.values import Claim


class FreeSlots(msgspec.Struct, frozen=True, gc=False):
    """How many requests one incarnation of a backend can take now. Made for each step of the backend."""

    count: int
    incarnation: int
    """The backend's incarnation that was ready; 0 where none was."""
    capabilities: Capabilities | None

    @property
    def begin_apart(self) -> bool:
        """Whether requests may begin one by one. A static batch begins with what is claimed together."""
        return self.capabilities is not None and self.capabilities.batching is not Batching.STATIC


def refusal(capabilities: Capabilities | None, claim: Claim) -> LlmactorsError | None:
    """Why a backend can neither begin nor continue a request; None where it can."""
    if capabilities is None:
        return None
    if claim.tokens and capabilities.takeover is Takeover.RESTART:
        return Interrupted("the backend was lost, and this kind of backend cannot continue an answer")
    return capabilities.refusal(claim.request)
