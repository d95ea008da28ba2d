"""Show the effective configuration, or check a configuration file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from llmactors.backends.build import foresee_models, read_models
from llmactors.cli.descriptors import complain
from llmactors.cli.flags import EVERY_COMMAND, with_settings
from llmactors.config import Configuration, Settings, check_file
from llmactors.config.show import as_json, as_toml
from llmactors.errors import ConfigError
from llmactors.http.address import parse_address

app = cyclopts.App(name="config", help=__doc__)


@app.default
@app.command(name="show")
@with_settings(EVERY_COMMAND)
def show(
    configuration: Configuration,
    *,
    json: Annotated[bool, Parameter(help="Print JSON instead of TOML.", negative=(), show_default=False)] = False,
) -> int:
    """Show the value of every setting, and whether a flag, a variable, the file or the default gives it. `config` alone
    does the same.

    Secrets are covered. The command takes the flags of all other commands.
    """
    text = as_json(configuration) if json else as_toml(configuration)
    # A path may hold bytes that are not UTF-8.
    print(text.encode(errors="backslashreplace").decode(), end="")
    return 0


@app.command(name="check")
def check(file: Annotated[Path, Parameter(help="The TOML file.")], /) -> int:
    """Check a configuration file, and name everything that is wrong with it.

    The exit code is 0 for a good file, and 2 for a wrong one.
    """
    configuration, problems = check_file(file)
    if configuration is not None:
        problems += [f"{file}: {message}" for message in _refusals(configuration.settings)]
    for problem in problems:
        complain(problem)
    if problems or configuration is None:
        return 2
    given = sum(source == f"{file}" for source in configuration.sources.values())
    print(f"{file} is good: {given} of {len(configuration.sources)} settings have a value there")
    return 0


def _refusals(settings: Settings) -> Iterator[str]:
    """What else a node would refuse: addresses and models, which it reads when it starts."""
    checks: list[Callable[[], object]] = [
        lambda: read_models(settings.model),
        lambda: foresee_models(settings),
        lambda: parse_address(settings.bind, name="bind"),
        lambda: settings.metrics_bind and parse_address(settings.metrics_bind, name="metrics_bind"),
    ]
    for judge in checks:
        try:
            judge()
        except ConfigError as error:
            yield error.message
