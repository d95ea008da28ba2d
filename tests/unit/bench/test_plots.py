"""The pictures: each server has one colour of its own, and axes are labelled in words."""

import pytest

from bench.plots import COLOURS, in_words
from bench.scenarios import SCENARIOS
from bench.servers import LLAMA, NAMES


def test_each_server_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == {*NAMES, LLAMA}
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("name", ["saturate", "steady", "idle", "takeover", "overload"])
def test_labels_of_axes_have_no_short_forms(name: str) -> None:
    """Of the scenarios that `just artifact` measures."""
    labels = [f"{figure.title}, {figure.unit}" for figure in SCENARIOS[name].figures if figure.unit]
    short = {"p50", "p99", "ms", "us", "/s", "%", "MB", "x"}
    assert not [label for label in map(in_words, labels) if short & set(label.replace(",", " ").split())]
