"""Where settings come from: defaults, a TOML file, variables and flags. The later of these goes before the earlier."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmactors.config.environment import convert_text, given_variables, unknown_variables
from llmactors.config.nearest import nearest_or_all
from llmactors.config.setting import Setting
from llmactors.config.settings import SETTINGS, Settings
from llmactors.errors import ConfigError

_MAX_BYTES = 1024 * 1024
DEFAULT = "default"
"""The source of a value that nobody gave."""


@attrs.frozen(eq=False)
class Configuration:
    """Settings, and where each value comes from."""

    settings: Settings
    sources: Mapping[str, str]
    """By name: `default`, the path of the file, the variable, or the flag."""
    reread: Callable[[], Settings] | None = None
    """Reads the same sources again, for a reload. None for a file that was only checked."""

    def is_from_flag(self, name: str) -> bool:
        """Whether the setting was given as a flag."""
        return self.sources[name] == SETTINGS[name].flag


def load(flags: Mapping[str, object], *, file: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings. `flags` that are None were not given. Raises `ConfigError` that names what is wrong, and where."""
    return configure(flags, file=file, environ=environ).settings


def configure(
    flags: Mapping[str, object], *, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Configuration:
    """As `load`, and says where each value comes from."""
    collected = _Collected()
    if file is not None:
        collected.take_file(file)
    collected.take_environment(environ)
    collected.take_flags(flags)
    if collected.problems:
        raise ConfigError(collected.problems[0])
    return attrs.evolve(collected.configuration(), reread=lambda: configure(flags, file=file, environ=environ).settings)


def check_file(file: Path) -> tuple[Configuration | None, list[str]]:
    """The configuration from the file alone, or None, and everything that is wrong with the file."""
    collected = _Collected()
    try:
        collected.take_file(file)
    except ConfigError as error:
        return None, [error.message]
    if collected.problems:
        return None, collected.problems
    return collected.configuration(), []


class _Collected:
    """Values as they come in; a later one takes the place of an earlier one."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources = dict.fromkeys(SETTINGS, DEFAULT)
        self.problems: list[str] = []

    def take_file(self, file: Path) -> None:
        for name, value in _read_file(file).items():
            if name in SETTINGS:
                self._take(SETTINGS[name], f"{file}", value)
            else:
                self.problems.append(f"{file}: there is no setting `{name}`{nearest_or_all(name, SETTINGS)}")

    def take_environment(self, environ: Mapping[str, str]) -> None:
        self.problems += unknown_variables(environ)
        for setting, variable, text in given_variables(environ):
            self._take(setting, variable, text, convert_text)

    def take_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            if name not in SETTINGS:
                self.problems.append(f"there is no setting `{name}`{nearest_or_all(name, SETTINGS)}")
            elif value is not None:
                self._take(SETTINGS[name], SETTINGS[name].flag, value)

    def configuration(self) -> Configuration:
        """The settings. Where tables declare models and `model` is not given, the default of `model` is not served."""
        if self.values.get("models") and self.sources["model"] == DEFAULT:
            self.values["model"] = ()
        return Configuration(Settings(**self.values), self.sources)

    def _take(
        self, setting: Setting, source: str, value: Any, convert: Callable[[Setting, Any], Any] = Setting.convert
    ) -> None:
        try:
            self.values[setting.name] = convert(setting, value)
        except ConfigError as error:
            self.problems.append(f"{source}: {error.message}")
        self.sources[setting.name] = source


def _read_file(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most nodes have no file, and start quicker without

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path} is no file of settings: it has more than {_MAX_BYTES} bytes")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
