"""The units of systemd: systemd accepts them, their commands and variables exist, and systemd waits for the drain."""

import re
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

from llmactors.cli.commands import COMMANDS
from llmactors.config import Settings
from tests.support.documents import PROJECT, read

UNITS = sorted(path.name for path in (PROJECT / "ops" / "systemd").glob("*.service"))
PROGRAM = "/opt/llmactors/bin/llmactors"
END_S = 10
"""How long a process may take to end after its drain."""
MOST_EXPOSED = 30
"""The highest exposure that `systemd-analyze security` may find, in tenths."""


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", read(f"ops/systemd/{unit}"), re.MULTILINE)


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Copies of all units, with a program that this machine has; of templates, an instance."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install -y systemd")
    found = []
    for unit in UNITS:
        copy = tmp_path_factory.getbasetemp() / unit.replace("@", "@8000")
        text = read(f"ops/systemd/{unit}").replace(PROGRAM, "/bin/true")
        copy.with_name(unit).write_text(text, encoding="utf-8")
        copy.write_text(text, encoding="utf-8")
        found.append(copy)
    return found


def test_systemd_accepts_the_units(instances: list[Path]) -> None:
    command = ["systemd-analyze", "verify", "--man=no", *map(str, instances)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_units_may_do_little(instances: list[Path]) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager"]
    done = subprocess.run([*command, *map(str, instances)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.parametrize("unit", UNITS)
def test_unit_starts_a_command_and_waits_for_its_drain(unit: str) -> None:
    [command] = values(unit, "ExecStart")
    program, name, *flags = command.split()
    assert program == PROGRAM
    assert name in COMMANDS
    variables = dict(part.split("=", 1) for line in values(unit, "Environment") for part in line.split())
    settings = {attribute.name: attribute for attribute in attrs.fields(Settings)}
    assert {key.removeprefix("LLMACTORS_").lower() for key in variables} - {"cache"} <= set(settings)
    assert {flag.removeprefix("--").replace("-", "_") for flag in flags if flag.startswith("--")} <= set(settings)
    drain_s = float(variables.get("LLMACTORS_DRAIN_S", str(settings["drain_s"].default)))
    assert float(*values(unit, "TimeoutStopSec")) >= drain_s + END_S


def test_units_differ_only_in_what_they_start() -> None:
    """A rule of one unit that another one lacks would be forgotten there."""
    shared = {read(f"ops/systemd/{unit}").partition("Type=exec\n")[2] for unit in UNITS}
    assert len(shared) == 1
