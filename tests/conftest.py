"""Options of the test run, which pytest reads from no deeper conftest, and what tests of several folders share."""

from pathlib import Path

import pytest

from llmactors.errors import ModelError
from llmactors.testing.models import smollm2_path


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "killing things under load")
    group.addoption(
        "--chaos-minutes",
        type=float,
        default=0.0,
        metavar="N",
        help="go on with the faults for about so long in all [0: each a few times, in less than three minutes]",
    )
    group.addoption("--chaos-seed", type=int, default=1, metavar="SEED", help="what the faults and the load follow [1]")


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The weights of a small real model, downloaded the first time."""
    pytest.importorskip("xllamacpp", reason="pip install 'llmactors[llama]'")
    try:
        return smollm2_path()
    except ModelError as error:
        pytest.skip(f"no weights: {error.message}")
