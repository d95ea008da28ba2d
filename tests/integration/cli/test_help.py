"""The help of every command, and which flags it offers."""

import importlib
import re

import pytest

from llmactors.cli import run
from llmactors.cli.commands import COMMANDS, GROUPS
from llmactors.config import SETTINGS

pytestmark = pytest.mark.integration

BELOW_GROUPS = (
    "keys create",
    "keys list",
    "keys revoke",
    "keys rotate",
    "config show",
    "config check",
    "queue show",
    "queue dead",
    "queue requeue",
    "queue purge",
)


def help_of(command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    for group in GROUPS:
        # In one process, cyclopts keeps the console, and so the width, of a command's first help or error.
        app = importlib.import_module(f"llmactors.cli.{group}").app
        for each in (app, *(app[name] for name in app)):
            monkeypatch.setattr(each, "_fallback_console", None)
    assert run([*command.split(), "--help"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    return said.out


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS, *BELOW_GROUPS])
def test_help_fits_80_columns(command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = help_of(command, capfd, monkeypatch).splitlines()
    assert not [line for line in lines if len(line) > 80]
    usage, _, summary = lines[:3]
    assert usage.startswith(f"Usage: llmactors {command}".rstrip())
    assert summary[0].isupper()


def test_list_of_commands_has_the_first_sentence_of_each(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = " ".join(help_of("", capfd, monkeypatch).replace("│", " ").split())
    for command in (*COMMANDS, *GROUPS):
        own = help_of(command, capfd, monkeypatch).split("\n\n")[1]
        assert f"{command} {' '.join(own.split())}" in shown


@pytest.mark.parametrize("command", [*COMMANDS, *BELOW_GROUPS])
def test_command_has_the_flags_of_its_settings(
    command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = help_of(command, capfd, monkeypatch)
    name = command.partition(" ")[0]
    for setting in SETTINGS.values():
        if name in setting.commands:
            assert re.search(rf"^│ .*{setting.flag}\b", shown, re.MULTILINE)
            default = setting.default_text.replace(" ", r"[\s│]+")
            assert not default or re.search(rf"\[default:[\s│]+{default}\]", shown)


def test_flags_that_are_not_given_pass_beside_pydantic(capfd: pytest.CaptureFixture[str]) -> None:
    """Cyclopts validates defaults as soon as some other library has imported pydantic."""
    importlib.import_module("pydantic")
    assert run(["keys", "list"]) == 2
    assert "say where the keys are" in capfd.readouterr().err
