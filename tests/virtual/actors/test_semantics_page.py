"""The example of SEMANTICS.md runs, and the page has all promises."""

import importlib.resources
import re
from typing import Any

import trio
from trio.testing import MockClock

PAGE = importlib.resources.files("llmactors.actors").joinpath("SEMANTICS.md").read_text()


async def test_example_of_the_page_runs_and_has_fifteen_lines(autojump_clock: MockClock) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "SEMANTICS.md", "exec"), names)
    async with trio.open_nursery() as nursery:
        await nursery.start(names["tree"].run)
        await names["counter"].ref.tell(names["Add"](2))
        assert await names["counter"].ref.ask(names["Add"](3)) == 5
        names["tree"].stop()
    assert len([line for line in example.splitlines() if line]) <= 15


def test_page_has_twenty_promises() -> None:
    assert re.findall(r"^(\d+)\. \*\*", PAGE, re.MULTILINE) == [str(number) for number in range(1, 21)]
