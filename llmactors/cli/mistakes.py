"""One line for each mistake in what was typed."""

from collections.abc import Collection, Sequence

import cyclopts

from llmactors.cli.commands import COMMANDS, GROUPS
from llmactors.config.nearest import nearest


def explain(error: cyclopts.CycloptsError, argv: Sequence[str]) -> str:
    """What is wrong with `argv`, the words behind `llmactors`, and what to do."""
    command = " ".join(error.command_chain or ["serve"])
    see_help = f"see `llmactors {command} --help`"
    match error:
        case cyclopts.UnusedCliTokensError(unused_tokens=[word, *_]):
            unknown = _unknown_command(word, argv, error.app)
            return unknown or f"`{command}` does not take the argument {word!r}; {see_help}"
        case cyclopts.MissingArgumentError(keyword=str(flag)):
            return f"{flag} needs a value; {see_help}"
        case cyclopts.MissingArgumentError(argument=argument) if argument is not None:
            return f"`{command}` needs {argument.name}; {see_help}"
        case cyclopts.RepeatArgumentError(token=token):
            return f"{token.keyword} is given more than once"
        case _:
            return str(error)


def _unknown_command(word: str, argv: Sequence[str], app: cyclopts.App | None) -> str | None:
    """The message where `word` stands in the place of a command's name; None where it does not."""
    if argv[0] == word:
        return f"there is no command {word!r}{_nearest_or_help(word, [*COMMANDS, *GROUPS], '--help')}"
    if argv[0] in GROUPS and argv[1] == word and app is not None:
        known = [name for name in app if not name.startswith("-")]
        return f"there is no command '{argv[0]} {word}'{_nearest_or_help(word, known, f'{argv[0]} --help')}"
    return None


def _nearest_or_help(word: str, known: Collection[str], words: str) -> str:
    return nearest(word, known) or f"; see `llmactors {words}`"
