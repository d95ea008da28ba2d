"""The table of all settings in the handbook: `python -m llmactors.config.handbook ops/HANDBOOK.md` writes it there."""

import itertools
import sys
from pathlib import Path

from llmactors.config.setting import Setting
from llmactors.config.settings import SETTINGS
from llmactors.errors import ConfigError

BEGIN = "<!-- settings: begin. `python -m llmactors.config.handbook ops/HANDBOOK.md` writes what follows. -->"
END = "<!-- settings: end -->"


def settings_table() -> str:
    """All settings as Markdown: a table for each group."""
    groups = itertools.groupby(SETTINGS.values(), key=lambda setting: setting.group)
    return "\n".join(_table(group, list(settings)) for group, settings in groups)


def in_handbook(text: str) -> str:
    """What stands between the two marks of the handbook. Raises `ConfigError` where a mark is missing."""
    return _split(text)[1]


def with_table(text: str) -> str:
    """The handbook with the table as it is now. Raises `ConfigError` where a mark is missing."""
    before, _, after = _split(text)
    return f"{before}{BEGIN}\n{settings_table()}{END}{after}"


def _split(text: str) -> tuple[str, str, str]:
    before, begin, rest = text.partition(f"{BEGIN}\n")
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"the handbook needs the two lines {BEGIN} and {END}")
    return before, between, after


def _table(group: str, settings: list[Setting]) -> str:
    lines = [
        f"### {group}",
        "",
        "| setting | values | default | meaning | flag of | reload |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{setting.name}` | {setting.requirement} | {_code(setting.default_text)} | {setting.help} | "
        f"{', '.join(sorted(setting.commands)) or 'none'} | {'yes' if setting.reloadable else ''} |"
        for setting in settings
    ]
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"


def main(path: str) -> None:
    """Writes the table into the handbook at `path`."""
    handbook = Path(path)
    handbook.write_text(with_table(handbook.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
