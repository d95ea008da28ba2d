"""Each stream of a gateway writes its first tokens at once, and then at most once per flush interval."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.errors import LlmactorsError
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.native.events import SseRenderer
from llmactors.gateway.streaming.flusher import ENDED_AT_ONCE, ENDED_PER_PASS, Flusher
from llmactors.gateway.streaming.pump import MAX_EVENTS, StreamTiming
from llmactors.gateway.streaming.sse_stream import SseStream
from llmactors.http.exchange import Exchange
from llmactors.http.throttle import BurstThrottle
from llmactors.ledger import AppendEntry, MemoryLedger
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage
from llmactors.telemetry import Metrics
from tests.support.passes import counted_passes

PACE = StreamTiming(flush_interval_s=0.01, keep_alive_s=15)
DONE = Finished("stop", Usage(1, 1))


class Wire:
    """A fake connection that accepts every write, unless one of its flags is set."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.body = b""
        self.full = False
        """Accepts half of a chunk at once, and the rest in `write_rest`."""
        self.busy = False
        """Accepts nothing without waiting."""
        self.ended = 0
        self._rest = b""

    def write_chunk_nowait(self, data: bytes) -> bool | None:
        assert not self._rest
        if self.busy:
            return None
        self.times.append(round(trio.current_time(), 6))
        half = len(data) // 2 if self.full else len(data)
        self.body, self._rest = self.body + data[:half], data[half:]
        return not self._rest

    async def write_rest(self) -> None:
        await trio.sleep(0.5)
        self.body, self._rest = self.body + self._rest, b""

    async def send(self, message: dict[str, object]) -> None:
        assert not self._rest
        data = message["body"]
        assert isinstance(data, bytes)
        self.times.append(round(trio.current_time(), 6))
        await trio.sleep(0.5 if self.busy else 0)
        self.body += data
        self.ended += not message["more_body"]


class Rig:
    """The streams of one flusher, and the worker of their requests."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.metrics = Metrics()
        self.flusher = Flusher(PACE, self.metrics)
        self._epochs: dict[str, int] = {}
        self._written: dict[str, int] = {}

    async def stream(self, name: str, wire: Wire, *, http_version: str = "1.1") -> SseStream:
        await self.ledger.submit(GenerateRequest(id=name, model="m", prompt="p"))
        await self.ledger.beat("w")
        (claim,) = await self.ledger.claim("w", "m", 1)
        self._epochs[name], self._written[name] = claim.epoch, 0
        scope = {"http_version": http_version, "state": {"wire": wire}, "headers": []}
        exchange = Exchange(scope, trio.sleep_forever, wire.send, name, NATIVE_ERRORS)  # type: ignore[arg-type]
        follower = await self.ledger.follow(name)
        times = self.metrics.models.answers("m").stream(exchange.begun)
        return SseStream(exchange, follower, self.flusher, PACE, self.metrics, SseRenderer(name), times)

    async def add(self, name: str, count: int = 1, *, end: bool = False) -> None:
        first = self._written[name] + 1
        self._written[name] += count
        deltas = [TokenDelta(seq, f"t{seq}") for seq in range(first, first + count)]
        await self.ledger.append([AppendEntry(name, self._epochs[name], first, deltas, DONE if end else None)])


def seqs(wire: Wire) -> list[int]:
    return [int(line.removeprefix(b"id: ")) for line in wire.body.split(b"\n") if line.startswith(b"id: ")]


async def test_first_tokens_are_written_at_once(autojump_clock: MockClock) -> None:
    rig, wire = Rig(), Wire()
    stream = await rig.stream("a", wire)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        nursery.start_soon(stream.run)
        await trio.sleep(3)
        await rig.add("a")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert [at - begun for at in wire.times] == [3]


async def test_empty_log_costs_no_turn_of_the_flusher(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request's first token is not behind a turn of the flusher that finds nothing."""
    rig, wire, turns = Rig(), Wire(), list[float]()
    take_turn = rig.flusher._turn

    async def counted_turn() -> None:
        turns.append(trio.current_time())
        await take_turn()

    monkeypatch.setattr(rig.flusher, "_turn", counted_turn)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        nursery.start_soon((await rig.stream("a", wire)).run)
        await trio.sleep(1)
        await rig.add("a")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert turns == wire.times == [1.0]


async def test_tokens_every_20_ms_are_never_delayed(autojump_clock: MockClock) -> None:
    """Streams that are due at other times do not delay each other."""
    rig, wires = Rig(), {name: Wire() for name in "abc"}
    streams = [await rig.stream(name, wire) for name, wire in wires.items()]
    appended: dict[str, list[float]] = {name: [] for name in wires}

    async def step(name: str, offset_s: float) -> None:
        await trio.sleep(offset_s)
        for turn in range(50):
            await trio.sleep(0.02)
            appended[name].append(round(trio.current_time(), 6))
            await rig.add(name, end=turn == 49)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        async with trio.open_nursery() as work:
            for index, (name, stream) in enumerate(zip(wires, streams, strict=True)):
                work.start_soon(stream.run)
                work.start_soon(step, name, index * 0.003)
        nursery.cancel_scope.cancel()

    for name, wire in wires.items():
        assert wire.times == appended[name]
        assert (seqs(wire), wire.ended) == (list(range(1, 52)), 1)


async def test_faster_backend_is_written_once_per_flush_interval(autojump_clock: MockClock) -> None:
    rig, wire = Rig(), Wire()
    stream = await rig.stream("a", wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        async with trio.open_nursery() as work:
            work.start_soon(stream.run)
            for step in range(1000):
                await trio.sleep(0.001)
                await rig.add("a", end=step == 999)
        nursery.cancel_scope.cancel()

    gaps = [later - earlier for earlier, later in zip(wire.times, wire.times[1:], strict=False)]
    assert min(gaps) >= PACE.flush_interval_s - 1e-9
    assert 95 <= len(wire.times) <= 102
    assert (seqs(wire), wire.ended) == (list(range(1, 1002)), 1)


async def test_stream_not_due_yet_is_written_at_its_own_time(autojump_clock: MockClock) -> None:
    rig, wires = Rig(), {name: Wire() for name in "ab"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        for name, wire in wires.items():
            nursery.start_soon((await rig.stream(name, wire)).run)
        for at_ms, name in ((1000, "a"), (1004, "a"), (1006, "b")):
            await trio.sleep_until(at_ms / 1000)
            await rig.add(name)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert (wires["a"].times, wires["b"].times) == ([1.0, 1.01], [1.006])


@pytest.mark.parametrize("tokens", [0, 1, MAX_EVENTS, 3 * MAX_EVENTS + 1])
@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
async def test_whole_log_is_written_with_one_end(tokens: int, http_version: str, autojump_clock: MockClock) -> None:
    rig, wire = Rig(), Wire()
    stream = await rig.stream("a", wire, http_version=http_version)
    await rig.add("a", tokens, end=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        await stream.run()
        nursery.cancel_scope.cancel()

    assert (seqs(wire), wire.ended) == (list(range(1, tokens + 2)), 1)


@pytest.mark.parametrize("trouble", ["neither", "full", "busy"])
async def test_last_tokens_do_not_wait_for_ends_of_other_streams(trouble: str, autojump_clock: MockClock) -> None:
    rig, log, ended = Rig(), list[str](), list[int]()

    class Noting(Wire):
        def write_chunk_nowait(self, data: bytes) -> bool | None:
            log.append("tokens" if b"event: token" in data else "other")
            return super().write_chunk_nowait(data)

        async def send(self, message: dict[str, object]) -> None:
            if not message["more_body"]:
                log.append("end")
                ended.append(passes.now)
            await super().send(message)

    wires = [Noting() for _ in range(3 * ENDED_AT_ONCE)]
    setattr(wires[-1], trouble, True)
    streams = [await rig.stream(str(number), wire) for number, wire in enumerate(wires)]
    with counted_passes() as passes:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.flusher.run)
            async with trio.open_nursery() as work:
                for stream in streams:
                    work.start_soon(stream.run)
                await trio.sleep(1)
                for number in range(len(wires)):
                    await rig.add(str(number), end=True)
            nursery.cancel_scope.cancel()

    # The streams beyond the burst wrote their tokens first.
    assert log[: 2 * ENDED_AT_ONCE] == ["tokens"] * (2 * ENDED_AT_ONCE)
    # All streams ended, a few in each pass of the scheduler.
    assert log.count("end") == len(wires)
    assert ended.count(ended[0]) <= ENDED_AT_ONCE
    assert all(ended.count(at) <= ENDED_PER_PASS for at in ended[ENDED_AT_ONCE:])
    assert all((seqs(wire), wire.ended) == ([1, 2], 1) for wire in wires)


@pytest.mark.parametrize("trouble", ["full", "busy"])
async def test_slow_client_delays_only_its_own_stream(trouble: str, autojump_clock: MockClock) -> None:
    rig, slow, quick = Rig(), Wire(), Wire()
    setattr(slow, trouble, True)
    streams = [await rig.stream("slow", slow), await rig.stream("quick", quick)]
    appended = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        async with trio.open_nursery() as work:
            for stream in streams:
                work.start_soon(stream.run)
            for step in range(100):
                await trio.sleep(0.02)
                appended.append(round(trio.current_time(), 6))
                await rig.add("slow", end=step == 99)
                await rig.add("quick", end=step == 99)
        nursery.cancel_scope.cancel()

    assert quick.times == appended
    assert len(slow.times) < 10
    for wire in (slow, quick):
        assert (seqs(wire), wire.ended) == (list(range(1, 102)), 1)


@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
async def test_silent_stream_gets_keep_alives(http_version: str, autojump_clock: MockClock) -> None:
    rig, wire = Rig(), Wire()
    stream = await rig.stream("a", wire, http_version=http_version)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        nursery.start_soon(stream.run)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()

    silences = [later - earlier for earlier, later in zip([begun, *wire.times], wire.times, strict=False)]
    assert len(silences) >= 3
    assert all(0.5 * PACE.keep_alive_s <= silence <= PACE.keep_alive_s + 1e-6 for silence in silences)
    assert wire.body == b": keep-alive\n\n" * len(silences)


async def test_active_stream_gets_no_keep_alives(autojump_clock: MockClock) -> None:
    rig, wire = Rig(), Wire()
    stream = await rig.stream("a", wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        nursery.start_soon(stream.run)
        for _ in range(60):
            await trio.sleep(1)
            await rig.add("a")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert b"keep-alive" not in wire.body


@pytest.mark.parametrize("when", ["take", "render"])
async def test_fault_in_one_stream_ends_only_that_stream(when: str, autojump_clock: MockClock) -> None:
    rig, broken, whole = Rig(), Wire(), Wire()
    streams = {"broken": await rig.stream("broken", broken), "whole": await rig.stream("whole", whole)}
    raised: list[Exception] = []

    def fail(*args: object) -> bytes:
        raise RuntimeError("a fault")

    if when == "take":
        streams["broken"]._follower.take = fail  # type: ignore[method-assign,assignment]
    else:
        streams["broken"]._render = fail  # type: ignore[assignment]

    async def run(stream: SseStream) -> None:
        try:
            await stream.run()
        except (RuntimeError, LlmactorsError) as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        async with trio.open_nursery() as work:
            for stream in streams.values():
                work.start_soon(run, stream)
            for step in range(5):
                await trio.sleep(0.02)
                await rig.add("broken")
                await rig.add("whole", end=step == 4)
        nursery.cancel_scope.cancel()

    assert [str(error) for error in raised] == ["a fault"]
    assert (seqs(whole), whole.ended) == ([1, 2, 3, 4, 5, 6], 1)


@pytest.mark.parametrize("how", ["full", "busy", "neither"])
async def test_cancelled_stream_is_forgotten(how: str, autojump_clock: MockClock) -> None:
    rig, wire = Rig(), Wire()
    setattr(wire, how, True)
    stream = await rig.stream("a", wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        with trio.move_on_after(1):
            async with trio.open_nursery() as work:
                work.start_soon(stream.run)
                await rig.add("a")
        await rig.add("a")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert "0 streams, 0 marked" in repr(rig.flusher)
    assert b"t2" not in wire.body


async def test_last_tokens_do_not_wait_for_ends_of_an_earlier_step(monkeypatch: pytest.MonkeyPatch) -> None:
    flusher = Flusher(PACE, Metrics())
    assert flusher.may_end_together()
    monkeypatch.setattr(BurstThrottle, "is_crowded", True)
    assert not flusher.may_end_together()


@pytest.mark.parametrize(("others_ms", "share"), [(0, 1 / 2), (20, 1 / 2), (60, 1 / 4)])
async def test_flusher_leaves_half_of_the_time_to_other_tasks(
    others_ms: int, share: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Four streams always have more to write, for 5 ms each, and other tasks work for `others_ms` in each turn."""
    monkeypatch.setattr("llmactors.gateway.streaming.flusher.FAIR_EVERY", 2)
    rig, names = Rig(), "abcd"
    written: dict[str, trio.Event] = {}

    class Slow(Wire):
        def __init__(self, name: str) -> None:
            super().__init__()
            self._name = name

        def write_chunk_nowait(self, data: bytes) -> bool | None:
            autojump_clock.jump(0.005)
            written[self._name].set()
            return super().write_chunk_nowait(data)

    async def others(name: str) -> None:
        while True:
            await written[name].wait()
            written[name] = trio.Event()
            autojump_clock.jump(others_ms / 1000 / len(names))
            await rig.add(name)

    wires = {name: Slow(name) for name in names}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.flusher.run)
        for name, wire in wires.items():
            written[name] = trio.Event()
            nursery.start_soon((await rig.stream(name, wire)).run)
            nursery.start_soon(others, name)
        await wait_all_tasks_blocked()
        for name in names:
            await rig.add(name)
        await trio.sleep(4)
        nursery.cancel_scope.cancel()

    assert sum(len(wire.times) for wire in wires.values()) * 0.005 / 4 == pytest.approx(share, rel=0.1)


async def test_request_is_timed_from_its_arrival() -> None:
    scope = {"http_version": "1.1", "state": {"arrived": 1.5}, "headers": []}
    assert Exchange(scope, trio.sleep_forever, trio.sleep_forever, "r", NATIVE_ERRORS).begun == 1.5  # type: ignore[arg-type]
