"""A configuration as TOML or as JSON, with secrets covered."""

import json
from typing import Any

from llmactors.config.load import Configuration
from llmactors.config.settings import SETTINGS


def as_toml(configuration: Configuration) -> str:
    """One line for each setting, with its source behind it. Settings without a value are comments."""
    lines = []
    for name, setting in SETTINGS.items():
        value = setting.shown(getattr(configuration.settings, name))
        text = f"# {name} is not set" if value is None else f"{name} = {_toml(value)}"
        lines.append(f"{text}  # {configuration.sources[name]}")
    return "\n".join(lines) + "\n"


def as_json(configuration: Configuration) -> str:
    """An object with the value and the source of each setting."""
    shown = {
        name: {"value": setting.shown(getattr(configuration.settings, name)), "source": configuration.sources[name]}
        for name, setting in SETTINGS.items()
    }
    return json.dumps(shown, indent=2) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + " }" if value else "{}"
        )
    # A basic string of TOML is one of JSON, except that TOML also escapes DEL.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace("\x7f", "\\u007f")
