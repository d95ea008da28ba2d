import pytest

pytest.register_assert_rewrite("llmactors.testing.ledger_suite")
