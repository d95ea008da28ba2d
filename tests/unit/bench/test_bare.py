"""The bare endpoints make the steps of the simulated model for all streams."""

import functools

import trio
from trio.testing import MockClock

from bench.peers.bare import Decoder, Runtime, Stream, body_of
from bench.peers.work import Job, Model, events

RUNTIME = Runtime(trio.current_time, trio.sleep, trio.Event)


async def test_waiting_stream_starts_when_a_slot_is_free(autojump_clock: MockClock) -> None:
    ends_s: dict[str, float] = {}

    def note(name: str) -> None:
        ends_s[name] = trio.current_time()

    decoder = Decoder(Model(step_s=1.0, slots=1), RUNTIME)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        for name in ("first", "second"):
            job = Job.read({"prompt": name, "max_tokens": 2})
            decoder.add(Stream(job, functools.partial(note, name)))
        begun = trio.current_time()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert {name: round(end - begun, 6) for name, end in ends_s.items()} == {"first": 2.0, "second": 4.0}


def test_stream_gives_each_event_once() -> None:
    job = Job.read({"prompt": "a", "max_tokens": 2})
    stream = Stream(job, lambda: None)
    assert stream.advance()
    assert stream.take() == (events(job, 1).encode(), True)
    assert not stream.advance()
    assert stream.take() == (events(job, 2).encode(), False)
    assert stream.take() == (b"", False)


async def test_body_is_read_in_all_its_parts() -> None:
    parts: list[dict[str, object]] = [{"body": b"a", "more_body": True}, {"more_body": True}, {"body": b"b"}]

    async def receive() -> dict[str, object]:
        return parts.pop(0)

    assert await body_of(receive) == b"ab"
