"""Settings as environment variables: their text, those of other programs, and the environment of a child process."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from llmactors.config.nearest import nearest_or_all
from llmactors.config.setting import PREFIX, Setting
from llmactors.config.settings import SETTINGS, Settings
from llmactors.errors import ConfigError

URL_VARIABLE = "LLMACTORS_URL"
"""The node that `generate`, `load` and `tree` talk to."""
CACHE_VARIABLE = "LLMACTORS_CACHE"
"""The directory in which downloaded models are kept."""
_VARIABLES = {variable: setting for setting in SETTINGS.values() for variable in setting.variables}
_OF_KEEPER = PREFIX + "KEEPER_"
"""How the variables begin that a keeper sets for the gateways that it starts."""
_KNOWN = {*_VARIABLES, URL_VARIABLE, CACHE_VARIABLE}
# Kubernetes gives each container such variables for every service in its namespace, and Docker for every linked
# container. Such variables begin like ours where the service is called llmactors, or llmactors-gateway.
_SERVICE_NAME = r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?|ENV_\w+)"
_SERVICE_VALUES = {"_PORT": r"(tcp|udp|sctp)://.*", "_NAME": r"/[^/]+/[^/]+"}


def given_variables(environ: Mapping[str, str]) -> Iterator[tuple[Setting, str, str]]:
    """Each setting that has a variable in the environment, with the variable's name and text. Empty variables give no
    value.
    """
    for setting in SETTINGS.values():
        for variable in setting.variables:
            text = environ.get(variable)
            if text and not setting.is_list:
                text = text.strip()  # a value that was read from a file often ends in a newline
            if text and not _is_of_service(variable, text):
                yield setting, variable, text
                break


def convert_text(setting: Setting, text: str) -> Any:
    """The value that the text of a variable stands for. Raises `ConfigError` that names the setting.

    The text of a list is a JSON array of texts if it begins with `[`, else it has one value in each line. The text of
    tables is a JSON object.
    """
    if setting.is_table:
        try:
            return setting.convert(json.loads(text))
        except ValueError:
            raise ConfigError(f"`{setting.name}` must be a JSON object with an object for each model") from None
    if not setting.is_list:
        return setting.convert(text.lower() if setting.choices else text)
    if not text.lstrip().startswith("["):
        return setting.convert([line.strip() for line in text.splitlines() if line.strip()])
    try:
        return setting.convert(json.loads(text))
    except ValueError:
        raise ConfigError(
            f'`{setting.name}` begins with [ and must then be a JSON array of texts, as in ["a", "b"]'
        ) from None


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the names of variables that begin like ours and are none of ours."""
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(_OF_KEEPER):
            continue
        if name not in _KNOWN and not _is_of_service(name, environ[name]):
            yield f"there is no variable {name}{nearest_or_all(name, _KNOWN)}"


def as_variables(values: Mapping[str, Any]) -> dict[str, str]:
    """The variables that give these values to settings of these names. A value of None has no variable, and neither has
    an empty list of models, as beside models that tables declare.
    """
    return {
        SETTINGS[name].variable: _text_of(SETTINGS[name], value)
        for name, value in values.items()
        if value is not None and (value != () or SETTINGS[name].default == ())
    }


def child_environment(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` for a child process that is to have the same settings, except those of one node alone.

    Secrets reach the child this way too, because everybody on the machine can read its flags.
    """
    inherited = {name: getattr(settings, name) for name, setting in SETTINGS.items() if setting.inherited}
    return {name: value for name, value in environ.items() if name not in _VARIABLES} | as_variables(inherited)


def _text_of(setting: Setting, value: Any) -> str:
    if setting.is_table:
        return json.dumps(msgspec.to_builtins(value))  # unlike msgspec, takes paths that are not UTF-8
    if setting.is_list:
        return json.dumps([value] if isinstance(value, str) else list(value))
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _is_of_service(name: str, value: str) -> bool:
    if any(name.endswith(end) and re.fullmatch(values, value) for end, values in _SERVICE_VALUES.items()):
        return True
    return name not in _KNOWN and re.fullmatch(_SERVICE_NAME, name) is not None
