"""A stream writes its first tokens at once, then at most once per flush interval, and never without news."""

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from llmactors.errors import Expired
from llmactors.gateway.streaming.pump import MAX_EVENTS, StreamTiming, pump
from llmactors.ledger import AppendEntry, Follower, LogSlice, MemoryLedger
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage

DONE = Finished("stop", Usage(1, 1))
PACE = StreamTiming(flush_interval_s=0.01, keep_alive_s=15)


class Log:
    """The log of one request, which the test writes as a worker and follows as a gateway."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.written = 0
        self.epoch = 0

    async def follow(self) -> Follower:
        await self.ledger.submit(GenerateRequest(id="r", model="m", prompt="p"))
        await self.ledger.beat("w")
        (claim,) = await self.ledger.claim("w", "m", 1)
        self.epoch = claim.epoch
        return await self.ledger.follow("r")

    async def add(self, count: int, *, end: bool = False) -> None:
        deltas = [TokenDelta(self.written + index, f"t{self.written + index}") for index in range(count)]
        entry = AppendEntry("r", self.epoch, self.written + 1, deltas, DONE if end else None)
        self.written += count
        await self.ledger.append([entry])


class Client:
    """Records writes with their times."""

    def __init__(self, slowness_s: Callable[[], float] = lambda: 0.0) -> None:
        self.times: list[float] = []
        self.parts: list[LogSlice] = []
        self.keep_alives: list[float] = []
        self._slowness_s = slowness_s

    async def write(self, part: LogSlice) -> None:
        self.times.append(round(trio.current_time(), 6))
        self.parts.append(part)
        await trio.sleep(self._slowness_s())

    async def keep_alive(self) -> None:
        self.keep_alives.append(round(trio.current_time(), 6))

    def seqs(self) -> Sequence[int]:
        return [part.first_seq + index for part in self.parts for index in range(len(part.deltas))]

    def ends(self) -> int:
        return sum(part.end is not None for part in self.parts)


async def test_first_tokens_are_written_at_once(autojump_clock: MockClock) -> None:
    log, client = Log(), Client()
    follower = await log.follow()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, follower, client.write, client.keep_alive, PACE)
        await trio.sleep(3)
        await log.add(1)
        await trio.sleep(1)
        await log.add(1, end=True)

    assert [round(at - begun, 6) for at in client.times] == [3, 4]


async def test_tokens_every_20_ms_are_never_delayed(autojump_clock: MockClock) -> None:
    log, client = Log(), Client()
    follower = await log.follow()
    appended = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, follower, client.write, client.keep_alive, PACE)
        for step in range(50):
            await trio.sleep(0.02)
            appended.append(round(trio.current_time(), 6))
            await log.add(1, end=step == 49)

    assert client.times == appended


async def test_faster_backend_is_written_once_per_flush_interval(autojump_clock: MockClock) -> None:
    log, client = Log(), Client()
    follower = await log.follow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, follower, client.write, client.keep_alive, PACE)
        for step in range(1000):
            await trio.sleep(0.001)
            await log.add(1, end=step == 999)

    gaps = [later - earlier for earlier, later in zip(client.times, client.times[1:], strict=False)]
    assert min(gaps) >= PACE.flush_interval_s - 1e-9
    assert 95 <= len(client.times) <= 102
    assert client.seqs() == list(range(1, 1001))
    assert client.ends() == 1


@pytest.mark.parametrize("tokens", [0, 1, MAX_EVENTS, MAX_EVENTS + 1, 3 * MAX_EVENTS])
async def test_long_log_is_written_in_pieces_with_one_end(tokens: int, autojump_clock: MockClock) -> None:
    log, client = Log(), Client()
    follower = await log.follow()
    await log.add(tokens, end=True)

    last = await pump(follower, client.write, client.keep_alive, PACE)

    assert client.seqs() == list(range(1, tokens + 1))
    assert max(len(part.deltas) for part in client.parts) <= MAX_EVENTS
    assert (last.end, last.end_seq, client.ends()) == (DONE, tokens + 1, 1)
    assert client.parts[-1] is last


async def test_silent_stream_gets_keep_alives(autojump_clock: MockClock) -> None:
    log, client = Log(), Client()
    follower = await log.follow()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, follower, client.write, client.keep_alive, PACE)
        await trio.sleep(40)
        await log.add(1)
        await trio.sleep(14)
        await log.add(1, end=True)

    assert [at - begun for at in client.keep_alives] == [15, 30]
    assert [at - begun for at in client.times] == [40, 54]


async def test_slow_client_delays_only_its_own_stream(autojump_clock: MockClock) -> None:
    log, client = Log(), Client(lambda: 0.5)
    follower = await log.follow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, follower, client.write, client.keep_alive, PACE)
        for step in range(100):
            await trio.sleep(0.02)
            await log.add(1, end=step == 99)

    # The client gets the tokens of the meantime together: they wait in the log, and the backend does not wait.
    assert len(client.times) == 5
    assert client.seqs() == list(range(1, 101))
    assert client.ends() == 1


async def test_exception_of_the_follower_is_raised(autojump_clock: MockClock) -> None:
    client = Client()

    class Gone:
        cursor = 0

        async def wait_more(self) -> None:
            await trio.lowlevel.checkpoint()

        def take(self) -> LogSlice:
            raise Expired

    with pytest.raises(Expired):
        await pump(Gone(), client.write, client.keep_alive, PACE)  # type: ignore[arg-type]


async def test_wakeup_without_news_writes_nothing(autojump_clock: MockClock) -> None:
    client = Client()

    class Nervous:
        cursor = 0
        looks = 0

        async def wait_more(self) -> None:
            await trio.sleep(0.001)

        def take(self) -> LogSlice:
            self.looks += 1
            return LogSlice(1, (), DONE if self.looks == 100 else None)

    await pump(Nervous(), client.write, client.keep_alive, PACE)  # type: ignore[arg-type]

    assert len(client.parts) == 1
