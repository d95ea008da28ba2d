"""One line and an exit code for what an operator can mend: what was typed, what is configured, what is missing."""

from collections.abc import Collection, Sequence

import cyclopts

from llmactors.actors import ActorError, leaves
from llmactors.cli.commands import COMMANDS, GROUPS
from llmactors.config.nearest import nearest
from llmactors.errors import LlmactorsError, OperatorError


def explain(error: Exception, argv: Sequence[str]) -> tuple[str, int] | None:
    """The line and the exit code for an error of the command `argv`; None for an error that is a bug of ours."""
    if isinstance(error, cyclopts.CycloptsError):
        return _wrong_words(error, argv), 2
    ours = operator_error(error)
    if ours is None:
        return None
    return str(ours), ours.exit_code if isinstance(ours, OperatorError) else 1


def operator_error(error: BaseException) -> LlmactorsError | ActorError | None:
    """The innermost error of ours in a chain of causes and groups: the one that says what to do. None if none is."""
    found: LlmactorsError | ActorError | None = None
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None:
            continue
        for leaf in leaves(current):
            if isinstance(leaf, LlmactorsError | ActorError):
                found = leaf
            pending.append(leaf.__cause__)
    return found


def _wrong_words(error: cyclopts.CycloptsError, argv: Sequence[str]) -> str:
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
