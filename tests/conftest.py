"""Options of pytest, which must be in the top conftest, and fixtures that tests of several folders share."""

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest

from llmactors.errors import ModelError
from tests.support.forked_commands import ForkedPopen, ForkServer
from tests.support.groups import GroupScheduling, place_of
from tests.support.models import smollm2_path

# Tests of several folders import these, so they are named before any of them is imported.
pytest.register_assert_rewrite("llmactors.testing.ledger_suite", "llmactors.testing.side_by_side")

# A test session starts hundreds of processes, and each would compile all modules again: a third of the time of a start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A keeper starts each gateway a second time, for its standby. Tests that are not about the keeper have none.
os.environ.setdefault("LLMACTORS_KEEPER", "false")

# No test asserts how long an example takes: another process may have the core meanwhile.
hypothesis.settings.register_profile("llmactors", deadline=None)
hypothesis.settings.load_profile("llmactors")

Figures = Callable[[str, str, object], None]
Section = Callable[[], list[str]]
SECTIONS = pytest.StashKey[dict[str, Section]]()
"""The sections that pytest prints at its end, by their headings. A section without lines is left out."""
_FIGURES = pytest.StashKey[dict[str, dict[str, object]]]()
_FROM_WORKERS = pytest.StashKey[dict[str, list[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "killing things under load")
    group.addoption(
        "--chaos-minutes",
        type=float,
        default=0.0,
        metavar="N",
        help="repeat the faults for about N minutes in all [0: each fault a few times, in less than three minutes]",
    )
    group.addoption("--chaos-seed", type=int, default=1, metavar="SEED", help="the seed of the faults and the load [1]")
    starting = parser.getgroup("start", "how commands are started")
    starting.addoption(
        "--anew",
        action="store_true",
        help="start each command of the package by exec, and none by a fork: see tests/TESTING.md",
    )
    fuzzing = parser.getgroup("fuzz", "sending mutated requests")
    fuzzing.addoption("--fuzz-connections", type=int, default=1000, metavar="N", help="how many connections [1000]")
    fuzzing.addoption(
        "--openapi-examples", type=int, default=1, metavar="N", help="how many random requests for each route [1]"
    )
    fuzzing.addoption(
        "--machine-examples", type=int, default=8, metavar="N", help="how often a state machine drives a ledger [8]"
    )
    fuzzing.addoption("--fuzz-seed", type=int, default=1, metavar="SEED", help="what the mutations follow [1]")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session", autouse=True)
def _one_ssl_context() -> Iterator[None]:
    """The HTTP clients of a test process share one SSL context. httpx would take 20 ms to make one for each client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def _forked_commands(pytestconfig: pytest.Config) -> Iterator[None]:
    """Commands are forks of a process that has imported the package."""
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(ForkServer()) as server:
        patch.setattr(ForkedPopen, "server", server, raising=False)
        if not pytestconfig.getoption("--anew"):
            patch.setattr(subprocess, "Popen", ForkedPopen)
        yield


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
    """Returns a function that notes a measured figure, which pytest prints at its end under a heading and a name."""
    noted = request.config.stash.setdefault(_FIGURES, {})

    def note(heading: str, name: str, value: object) -> None:
        noted.setdefault(heading, {})[name] = value

    return note


def _sections(config: pytest.Config) -> dict[str, list[str]]:
    """The lines of all sections of this process."""
    found = {heading: lines() for heading, lines in config.stash.get(SECTIONS, {}).items()}
    for heading, noted in config.stash.get(_FIGURES, {}).items():
        found[f"measured: {heading}"] = [f"{name}: {value}" for name, value in noted.items()]
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands the sections of a worker process of pytest-xdist to the process that prints them."""
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
