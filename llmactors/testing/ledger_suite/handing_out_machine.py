"""The state machine for a ledger that hands requests to workers with open slots."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from llmactors.ledger import Claim
from llmactors.testing.ledger_suite.machine import WORKERS, LedgerMachine


class HandingOutMachine(LedgerMachine):
    """All rules, with workers that leave slots open.

    The model does not say which worker is handed a request, only that it must have an open slot, and that a request
    must not wait while a worker has one.
    """

    hands_out = True

    def __init__(self) -> None:
        super().__init__()
        self.model.hands_out = True
        self.handed_out = 0

    @rule(name=WORKERS, slots=st.sampled_from([1, 2, 4]), submitted=st.integers(0, 3))
    def wait_with_open_slots(self, name: str, slots: int, submitted: int) -> None:
        """A worker waits, and some requests come."""
        self.claim(name, "m", slots, zombie=False)
        for number in range(submitted):
            self._submit(tenant="ab"[number % 2])

    def follow_handed(self) -> None:
        self.run(self.ledger.now_ms())  # messages that were sent before have been read when this is answered
        found: list[tuple[str, Claim]] = []
        for worker in sorted({*self.model.leases, *self.model.dead}):
            for model in ("m", "n"):
                found += [(worker, claim) for claim in self.ledger.handed(worker, model)]
        for worker, claim in found:
            self.model.hand_out(worker, claim, self.now_s, self.wall_ms())
            self.claims.append(claim)
            self.handed_out += 1
        for each in self.model.of_state("queued"):
            if each.is_overdue(self.wall_ms()) and self.run(self.ledger.info(each.request.id)).state == "ended":
                self.model.close(each, "DEADLINE_EXCEEDED", self.now_s)
