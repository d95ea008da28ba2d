"""The contract of a ledger as tests, which are the same for every ledger: see `llmactors/testing/TESTING.md`.

rig            a fresh ledger and its clock, which the author of a ledger provides as the pytest fixture `rig`
queueing, …    the tests, one file for each part of the contract; `LedgerSuite` is all of them
machine        a Hypothesis state machine: the operations of gateways, workers, readers and operators
comparison     what the machine compares after each operation: the ledger, and the naive `model` of a ledger
handing_out_machine  the machine with workers that leave slots open
limit_machine  a Hypothesis state machine that compares what callers have used with a naive account

The tests run under pytest with pytest-trio, and the machines need Hypothesis: `pip install "llmactors[testing]"`.
"""

try:
    import hypothesis  # noqa: F401 - the two machines import Hypothesis

    from llmactors.testing.ledger_suite.affinity import AffinitySuite
    from llmactors.testing.ledger_suite.claim_notes import ClaimNoteSuite
    from llmactors.testing.ledger_suite.ending import ArchiveSuite, CancelSuite, DeadlineSuite, ReaderSuite
    from llmactors.testing.ledger_suite.limiting import LimitSuite
    from llmactors.testing.ledger_suite.logging import AppendSuite, EndSuite, ReadSuite
    from llmactors.testing.ledger_suite.operating import DeadLetterSuite, DemandSuite, InspectionSuite, QueueDepthSuite
    from llmactors.testing.ledger_suite.preempting import PreemptionSuite
    from llmactors.testing.ledger_suite.queueing import ClaimSuite, PlaceSuite, SubmitSuite, WaitSuite
    from llmactors.testing.ledger_suite.rig import SUITE_SETTINGS, Rig, code_of, finished, request, tokens
    from llmactors.testing.ledger_suite.silence import SilenceSuite
    from llmactors.testing.ledger_suite.usage import UsageSuite
    from llmactors.testing.ledger_suite.working import (
        AttemptSuite,
        LeaseSuite,
        QuarantineSuite,
        WorkSuite,
    )
except ModuleNotFoundError as missing:
    if missing.name not in {"pytest", "hypothesis"}:
        raise
    raise ImportError(
        f"llmactors.testing.ledger_suite needs {missing.name}, which is not installed: install llmactors[testing]"
    ) from missing

__all__ = ["SUITE_SETTINGS", "LedgerSuite", "Rig", "code_of", "finished", "request", "tokens"]


class LedgerSuite(
    SubmitSuite,
    ClaimSuite,
    WaitSuite,
    PlaceSuite,
    AffinitySuite,
    PreemptionSuite,
    AppendSuite,
    EndSuite,
    ReadSuite,
    CancelSuite,
    ArchiveSuite,
    DeadlineSuite,
    ReaderSuite,
    LeaseSuite,
    AttemptSuite,
    ClaimNoteSuite,
    QuarantineSuite,
    SilenceSuite,
    WorkSuite,
    LimitSuite,
    QueueDepthSuite,
    DemandSuite,
    DeadLetterSuite,
    InspectionSuite,
    UsageSuite,
):
    """Tests of everything that `llmactors.ledger.contract` promises."""
