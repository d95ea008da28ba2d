"""The programs of EXAMPLES.md run as users run them, print what the page says, and are short."""

import importlib.resources
import re
import subprocess
import sys

import pytest

PAGE = importlib.resources.files("llmactors.actors").joinpath("EXAMPLES.md").read_text()
PROGRAMS = dict(re.findall(r"<!-- run: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
OUTPUTS = dict(re.findall(r"<!-- prints: (\w+) -->\n```\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_of_the_page_prints_what_the_page_says(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[name]], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == (OUTPUTS[name], 0), done.stderr


def test_page_has_three_short_programs() -> None:
    assert len(PROGRAMS) == len(OUTPUTS) == 3
    assert all(len([line for line in text.splitlines() if line]) <= 60 for text in PROGRAMS.values())
