"""What derives from the declaration of a setting."""

import itertools
from pathlib import Path

import attrs
import pytest

from llmactors.cli.commands import COMMANDS, GROUPS
from llmactors.config import SETTINGS, Setting, Settings
from llmactors.config.handbook import BEGIN, END, in_handbook, settings_table, with_table
from llmactors.errors import ConfigError

HANDBOOK = Path(__file__).parents[3] / "ops" / "HANDBOOK.md"
ALL = pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)


@ALL
def test_default_is_a_good_value(setting: Setting) -> None:
    assert setting.convert(setting.default) == setting.default


@ALL
def test_only_commands_that_exist_take_a_flag(setting: Setting) -> None:
    assert setting.commands <= {*COMMANDS, *GROUPS}


@ALL
def test_help_is_sentences(setting: Setting) -> None:
    assert setting.help[0].isupper()
    assert setting.help.endswith(".")


@ALL
def test_secret_is_no_flag(setting: Setting) -> None:
    assert not (setting.secret and setting.commands)


@ALL
def test_unset_is_the_default_of_what_can_be_unset(setting: Setting) -> None:
    """A child process that is given no variable would otherwise have another value."""
    try:
        setting.convert(None)
    except ConfigError:
        return
    assert setting.default is None


def test_settings_of_a_group_stand_together() -> None:
    groups = [setting.group for setting in SETTINGS.values()]
    changes = sum(before != after for before, after in itertools.pairwise(groups))
    assert changes + 1 == len(set(groups))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slots", "many", "`slots` must be a whole number from 1 to 1000000000, not 'many'"),
        ("drain_s", -1, "`drain_s` must be a number of seconds from 0 to 1000000000, not -1"),
        ("hung_s", 0, "`hung_s` must be a number of seconds above 0, at most 1000000000, not 0"),
        ("access_log", 7, "`access_log` must be true or false, not 7"),
        ("log_level", "loud", "`log_level` must be one of debug, info, warning, error, not 'loud'"),
        ("name", "a b", "`name` must be 1 to 64 letters, digits, dots, dashes or underscores, not 'a b'"),
        ("name", "a\n", "`name` must be 1 to 64 letters, digits, dots, dashes or underscores, not 'a\\n'"),
        ("bind", 8000, "`bind` must be a text, not 8000"),
        ("allowed_origins", [1], "`allowed_origins` must be a text, or a list of texts, not [1]"),
        ("drain_s", {"x": 1}, "`drain_s` must be a number of seconds from 0 to 1000000000, not a table"),
        ("api_key", "", "`api_key` must be a text that is not empty"),
    ],
)
def test_message_says_what_is_good(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SETTINGS[name].convert(value)
    assert caught.value.message == message


def test_default_has_its_unit() -> None:
    names = ("drain_s", "max_body_bytes", "slots", "model", "access_log", "flush_interval_s")
    texts = ("20 s", "1048576 bytes", "", "smollm2-135m", "false", "0.01 s")
    assert tuple(SETTINGS[name].default_text for name in names) == texts


def test_handbook_has_the_table_of_settings() -> None:
    """After a change of settings: `python -m llmactors.config.handbook ops/HANDBOOK.md`."""
    assert in_handbook(HANDBOOK.read_text(encoding="utf-8")) == settings_table()


def test_table_has_each_setting_once() -> None:
    table = settings_table()
    assert all(table.count(f"| `{name}` |") == 1 for name in attrs.fields_dict(Settings))


def test_table_replaces_an_old_one() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb\n") == f"a\n{BEGIN}\n{settings_table()}{END}\nb\n"


def test_handbook_without_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match="the handbook needs the two lines"):
        with_table(f"{BEGIN}\n")
