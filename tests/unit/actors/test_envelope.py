import pytest
import trio

from llmactors.actors import Exit, ExitKind, describe, leaves
from llmactors.actors.envelope import Reply, fatal


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_leaves_of_a_group_come_left_to_right() -> None:
    one, two, three = ValueError(1), KeyError(2), OSError(3)
    assert leaves(ExceptionGroup("x", [ExceptionGroup("y", [one, two]), three])) == [one, two, three]


def test_description_names_the_causes() -> None:
    error = OSError("cannot start")
    error.__cause__ = ExceptionGroup("g", [ValueError("no model\nsecond line")])
    assert describe(error) == "OSError: cannot start <- ValueError: no model"


def test_description_counts_the_other_errors_of_a_group() -> None:
    assert describe(ExceptionGroup("g", [ValueError("one"), KeyError("two")])) == "ValueError: one (and 1 more)"


def test_description_never_raises() -> None:
    assert describe(Mute()) == "Mute: (its text raises)"


def test_description_of_a_circle_of_causes_ends() -> None:
    error = ValueError("x")
    error.__cause__ = error
    assert describe(error).count("ValueError") == 4


def test_text_of_an_exit_has_kind_and_error() -> None:
    assert str(Exit(ExitKind.NORMAL)) == "normal"
    assert str(Exit(ExitKind.CRASHED, ValueError("x"))) == "crashed: ValueError: x"


@pytest.mark.parametrize("error", [MemoryError(), trio.TrioInternalError(), KeyboardInterrupt(), SystemExit()])
def test_fatal_error_is_found_inside_groups(error: BaseException) -> None:
    assert fatal(BaseExceptionGroup("g", [ValueError(), BaseExceptionGroup("h", [error])])) is error


def test_ordinary_error_is_not_fatal() -> None:
    assert fatal(ExceptionGroup("g", [ValueError(), AssertionError()])) is None


async def test_first_answer_of_a_reply_counts() -> None:
    reply = Reply()
    reply.set(1)
    reply.set(2)
    reply.fail(ValueError("late"))
    assert await reply.wait() == 1


async def test_first_failure_of_a_reply_counts() -> None:
    reply = Reply()
    reply.fail(KeyError("first"))
    reply.set(2)
    with pytest.raises(KeyError):
        await reply.wait()
