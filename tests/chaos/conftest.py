"""What the chaos tests share, and the block that sums them up at the end of the test run."""

import pytest

from tests.chaos.runs import Chaos, Tally

_TALLY = pytest.StashKey[Tally]()


def _tally(config: pytest.Config) -> Tally:
    if _TALLY not in config.stash:
        config.stash[_TALLY] = Tally(config.getoption("--chaos-seed"), config.getoption("--chaos-minutes"))
    return config.stash[_TALLY]


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    return _tally(pytestconfig)


@pytest.fixture
def chaos(tally: Tally) -> Chaos:
    return Chaos(tally)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    more_s = config.getoption("--chaos-minutes") * 60
    for item in items:
        limit = item.get_closest_marker("timeout")
        if "chaos" in getattr(item, "fixturenames", ()) and limit is not None and more_s:
            item.add_marker(pytest.mark.timeout(limit.args[0] + 1.5 * more_s), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = _tally(config)
    if tally.verdicts or tally.notes:
        terminalreporter.section("chaos")
        for line in tally.lines():
            terminalreporter.write_line(line)
