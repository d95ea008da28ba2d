"""The outbox gives every token to an append once, in order, with the terminal event last."""

import pytest

from llmactors.backends.base import Output
from llmactors.batcher.outbox import Outbox
from llmactors.batcher.running import Running
from llmactors.ledger import AppendEntry, Claim
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage

KEY = ("r", 2)


def deltas(*numbers: int) -> tuple[TokenDelta, ...]:
    return tuple(TokenDelta(number, f" {number}") for number in numbers)


def running(*known: int) -> Running:
    request = GenerateRequest("r", "m", "p")
    return Running(Claim(request, epoch=2, attempt=1, quarantined=False, tokens=deltas(*known)))


def make(outbox: Outbox, each: Running, *numbers: int, finish: bool = False) -> None:
    each.produced(Output(KEY, deltas(*numbers), "stop" if finish else None, 7 if finish else 0))
    outbox.put({each: None}, len(numbers))


def test_steps_of_one_request_become_one_entry() -> None:
    outbox, each = Outbox(), running(1, 2)
    make(outbox, each, 3)
    make(outbox, each, 4, 5)

    assert outbox.tokens == 3
    assert outbox.take() == [AppendEntry("r", 2, 3, list(deltas(3, 4, 5)))]
    assert (outbox.tokens, outbox.take()) == (0, [])


def test_entry_is_taken_once_and_its_end_comes_last() -> None:
    outbox, each = Outbox(), running()
    make(outbox, each, 1)
    outbox.take()
    make(outbox, each, 2, finish=True)

    assert outbox.take() == [AppendEntry("r", 2, 2, list(deltas(2)), Finished("stop", Usage(7, 2)))]


def test_dropped_request_is_not_written() -> None:
    outbox, each = Outbox(), running()
    make(outbox, each, 1)
    outbox.take()
    make(outbox, each, 2, 3)
    outbox.drop(each)
    outbox.drop(running())

    assert (outbox.tokens, len(outbox), outbox.take()) == (0, 0, [])


@pytest.mark.parametrize(
    ("told", "believed"), [(0, 0), (7, 7), (2**31 - 1, 2**31 - 1), (-1, 0), (2**31, 0), (2**64, 0)]
)
def test_impossible_prompt_length_counts_as_unknown(told: int, believed: int) -> None:
    """Redis cannot compute the recovery of a limit that was charged so much, and the append of the end would fail."""
    each = running()
    each.produced(Output(KEY, deltas(1), "stop", told))
    assert each.end == Finished("stop", Usage(believed, 1))
