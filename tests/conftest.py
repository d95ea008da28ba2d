"""Options of the test run, which pytest reads from no deeper conftest, and what tests of several folders share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmactors.errors import ModelError
from tests.support.models import smollm2_path

Figures = Callable[[str, str, object], None]
Section = Callable[[], list[str]]
SECTIONS = pytest.StashKey[dict[str, Section]]()
"""What stands at the end of the run, by its heading. A section without lines is left out."""
_FIGURES = pytest.StashKey[dict[str, dict[str, object]]]()
_FROM_WORKERS = pytest.StashKey[dict[str, list[str]]]()


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


def _sections(config: pytest.Config) -> dict[str, list[str]]:
    """The lines of this process' sections."""
    found = {heading: lines() for heading, lines in config.stash.get(SECTIONS, {}).items()}
    for heading, noted in config.stash.get(_FIGURES, {}).items():
        found[f"measured: {heading}"] = [f"{name}: {value}" for name, value in noted.items()]
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of a run in several processes hands its sections to the one that prints them."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["sections"] = _sections(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    together = node.config.stash.setdefault(_FROM_WORKERS, {})
    for heading, lines in getattr(node, "workeroutput", {}).get("sections", {}).items():
        together.setdefault(heading, []).extend(lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    from_workers = config.stash.setdefault(_FROM_WORKERS, {})
    for heading, lines in {**_sections(config), **from_workers}.items():
        if lines:
            terminalreporter.section(heading)
        for line in lines:
            terminalreporter.line(line)
