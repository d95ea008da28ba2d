"""The ledger's contract as tests, for every ledger alike.

Subclass `LedgerSuite` in a test module and give it a fixture `rig` that makes a fresh `Rig`. Run it under pytest-trio,
and have pytest rewrite its asserts: `pytest.register_assert_rewrite("llmactors.testing.ledger_suite")` in a conftest.
"""

from llmactors.testing.ledger_suite.ending import CancelSuite, DeadlineSuite, ReaderSuite
from llmactors.testing.ledger_suite.limiting import LimitSuite
from llmactors.testing.ledger_suite.logging import AppendSuite, EndSuite, ReadSuite, RepairSuite
from llmactors.testing.ledger_suite.queueing import ClaimSuite, SubmitSuite, WaitSuite
from llmactors.testing.ledger_suite.rig import SUITE_SETTINGS, Rig, code_of, finished, request, tokens
from llmactors.testing.ledger_suite.working import AttemptSuite, LeaseSuite, QuarantineSuite, WorkSuite

__all__ = ["SUITE_SETTINGS", "LedgerSuite", "Rig", "code_of", "finished", "request", "tokens"]


class LedgerSuite(
    SubmitSuite,
    ClaimSuite,
    WaitSuite,
    AppendSuite,
    EndSuite,
    ReadSuite,
    RepairSuite,
    CancelSuite,
    DeadlineSuite,
    ReaderSuite,
    LeaseSuite,
    AttemptSuite,
    QuarantineSuite,
    WorkSuite,
    LimitSuite,
):
    """Everything that `llmactors.ledger.contract` promises."""
