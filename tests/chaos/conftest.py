"""Fixtures of the chaos tests, and the tally that pytest prints at its end."""

import pytest

from tests.chaos.runs import Chaos, Tally
from tests.conftest import SECTIONS

_TALLY = pytest.StashKey[Tally]()


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    if _TALLY not in pytestconfig.stash:
        tally = Tally(pytestconfig.getoption("--chaos-seed"), pytestconfig.getoption("--chaos-minutes"))
        pytestconfig.stash[_TALLY] = tally
        pytestconfig.stash.setdefault(SECTIONS, {})["chaos"] = tally.lines
    return pytestconfig.stash[_TALLY]


@pytest.fixture
def chaos(tally: Tally) -> Chaos:
    return Chaos(tally)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    more_s = config.getoption("--chaos-minutes") * 60
    for item in items:
        if "chaos" not in getattr(item, "fixturenames", ()):
            continue
        limit = item.get_closest_marker("timeout")
        if limit is not None and more_s:
            item.add_marker(pytest.mark.timeout(limit.args[0] + 1.5 * more_s), append=False)
