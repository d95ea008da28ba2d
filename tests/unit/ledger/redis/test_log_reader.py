"""The first reads of logs: all that are asked for in one pass of the scheduler are one call."""

from typing import Any, cast

import pytest
import trio

from llmactors.errors import NotFound, Unavailable
from llmactors.ledger.redis import codec
from llmactors.ledger.redis.functions import LedgerFunctions
from llmactors.ledger.redis.log_reader import LogReader
from llmactors.ledger.redis.losses import RedisLosses
from llmactors.ledger.redis.wrong_keys import WrongKeys
from llmactors.messages import TokenDelta

TOKENS = [TokenDelta(1, "a"), TokenDelta(2, "b")]


class Functions:
    """Answers for a ledger in which each log but `gone` has two tokens."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.is_away = False
        self.answers = trio.Event()
        self.answers.set()

    async def call_with_timeout(self, operation: str, _inbox: str, *parts: Any) -> list[Any]:
        self.calls.append([operation, *parts[::2]])
        await self.answers.wait()
        if self.is_away:
            raise Unavailable("the ledger is away", retry_after_s=1.0)
        chunks = [b"2-0", b"t", codec.encode_tokens(TOKENS)]
        return [[b"unknown"] if each == "gone" else [b"known", b"r", 1, 0, 2, chunks] for each in parts[::2]]

    async def call_until_done(self, operation: str, _inbox: str, *parts: Any) -> list[Any]:
        self.calls.append([operation, *parts])
        return []


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def reader(functions: Functions, nursery: trio.Nursery) -> LogReader:
    calls = cast("LedgerFunctions", functions)
    times = {"silence_s": 60.0, "unread_copy_s": 60.0, "still_read_s": 60.0}
    found = LogReader(calls, WrongKeys(), RedisLosses(), "inbox", **times)
    nursery.start_soon(found.run)
    return found


async def test_logs_of_a_takeover_are_read_together(functions: Functions, reader: LogReader) -> None:
    outcomes: dict[str, object] = {}

    async def open_log(request_id: str) -> None:
        try:
            outcomes[request_id] = (await reader.open(request_id)).tokens
        except NotFound as error:
            outcomes[request_id] = type(error)

    names = [*(f"req_{number}" for number in range(99)), "gone"]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(open_log, name)
    assert outcomes == {**dict.fromkeys(names, TOKENS), "gone": NotFound}
    reads = [call for call in functions.calls if call[0] == "tail"]
    assert sorted(len(call) - 1 for call in reads) == [36, 64]


async def test_each_reader_hears_that_the_ledger_is_away(functions: Functions, reader: LogReader) -> None:
    functions.is_away = True
    errors: list[Unavailable] = []

    async def open_log(request_id: str) -> None:
        with pytest.raises(Unavailable) as caught:
            await reader.open(request_id)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for name in ("req_1", "req_2"):
            nursery.start_soon(open_log, name)
    assert [(error.message, error.retry_after_s) for error in errors] == [("the ledger is away", 1.0)] * 2
    assert errors[0] is not errors[1]
    assert not len(reader.copies)


async def test_reader_that_has_left_is_not_read_for(functions: Functions, reader: LogReader) -> None:
    """A client may leave before its log is asked for. Its gateway becomes no reader, and hears of no tokens."""
    with trio.move_on_after(0) as left:
        await reader.open("req_1")
    assert left.cancelled_caught
    copy = await reader.open("req_2")
    assert copy.tokens == TOKENS
    assert ["tail", "req_2"] in functions.calls
    assert not any(call[0] == "tail" and "req_1" in call for call in functions.calls)
