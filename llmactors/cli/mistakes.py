"""One line and an exit code for every error that ends a command.

0    the command did what it was asked to do, or the reader of its output went away
1    something is missing or refused: a model, an address, a server, room on a disk
2    what was typed or configured is wrong
70   a fault of the program, or an error that no restart can mend, such as no memory
130  an interrupt
"""

import errno
from collections.abc import Collection, Sequence

import cyclopts
import structlog

from llmactors.actors import ActorError, fatal, leaves
from llmactors.cli.commands import COMMANDS, GROUPS
from llmactors.cli.descriptors import ReaderGone
from llmactors.config.nearest import nearest
from llmactors.errors import LlmactorsError, OperatorError
from llmactors.redislink.errors import ReplyError, reason_of

log = structlog.get_logger("llmactors")

MISSING, WRONG, FAULT, INTERRUPTED = 1, 2, 70, 130
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


def explain(error: BaseException, argv: Sequence[str]) -> tuple[str, int]:
    """The line and the exit code for an error of the command `argv`. No line is needed where the text is empty."""
    if any(_is_reader_gone(leaf) for leaf in leaves(error)):
        return "", 0
    if (unmendable := fatal(error)) is not None:
        return _unmendable(unmendable)
    ours = operator_error(error)
    if isinstance(ours, ReplyError):
        return f"Redis refused a command: {reason_of(ours)}", MISSING
    if ours is not None:
        return str(ours), ours.exit_code if isinstance(ours, OperatorError) else MISSING
    return _foreign(error, argv)


def _is_reader_gone(error: BaseException | None) -> bool:
    """Whether the reader of the output has gone. Rich, which prints help, then raises `SystemExit`."""
    if isinstance(error, SystemExit):
        return _is_reader_gone(error.__context__)
    return isinstance(error, BrokenPipeError | ReaderGone)


def _foreign(error: BaseException, argv: Sequence[str]) -> tuple[str, int]:
    """The line and the exit code for an error of another package."""
    match error:
        case cyclopts.CycloptsError():
            return _wrong_words(error, argv), WRONG
        case UnicodeEncodeError() if error.object in argv:
            return f"the argument {error.object!a} is not UTF-8", WRONG
        case OSError(filename=None, errno=number) if number in _NO_ROOM:
            return f"the output cannot be written: {error.strerror}", MISSING
    log.error("the command ended by a fault of the program", exc_info=error)
    return f"internal error: {type(error).__name__}: {error}", FAULT


def operator_error(error: BaseException) -> LlmactorsError | ActorError | None:
    """The innermost error of this package in a chain of causes and groups, which says what to do; None if there is
    none.
    """
    found: LlmactorsError | ActorError | None = None
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is None:
            continue
        for leaf in leaves(current):
            # A cause can be a group that has the error itself in it.
            if id(leaf) not in seen:
                seen.add(id(leaf))
                if isinstance(leaf, LlmactorsError | ActorError):
                    found = leaf
                pending.append(leaf.__cause__)
    return found


def _unmendable(error: BaseException) -> tuple[str, int]:
    match error:
        case KeyboardInterrupt():
            return "interrupted", INTERRUPTED
        case SystemExit(code=int(code)) if code:
            return f"a part of the program ended the process with code {code}", code
        case SystemExit():
            return "a part of the program called sys.exit", FAULT
        case MemoryError():
            return "out of memory" + (f": {error}" if str(error) else ""), FAULT
        case _:
            return f"{type(error).__name__}: {error}", FAULT


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
