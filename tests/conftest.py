"""Options of the test run, which pytest reads from no deeper conftest, and what tests of several folders share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llmactors.errors import ModelError
from llmactors.testing.models import smollm2_path

Figures = Callable[[str, str, object], None]
_FIGURES = pytest.StashKey[dict[str, dict[str, object]]]()


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


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Notes a figure under a heading and a name: what was measured and is not asserted stands in the run's summary."""
    noted = request.config.stash.setdefault(_FIGURES, {})

    def note(heading: str, name: str, value: object) -> None:
        noted.setdefault(heading, {})[name] = value

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for heading, noted in config.stash.get(_FIGURES, {}).items():
        terminalreporter.section(f"measured: {heading}")
        for name, value in noted.items():
            terminalreporter.line(f"{name}: {value}")
