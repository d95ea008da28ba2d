import pytest

pytest.register_assert_rewrite(
    "llmactors.testing.ledger_suite", "llmactors.testing.ledger_machine", "llmactors.testing.limit_machine"
)
