"""A client that waits learns its place in the queue, at a bounded rate, and a client that is served learns nothing."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.errors import Unavailable
from llmactors.gateway.queue_places import LOOK_AT_MAX, QueuePlaces, QueueStanding
from llmactors.ledger import QueuePlace


class Queue:
    """A ledger of which only the places are asked."""

    def __init__(self) -> None:
        self.places: dict[str, QueuePlace] = {}
        self.asked: list[tuple[float, list[str]]] = []
        self.is_away = False

    async def find(self, ids: Sequence[str]) -> list[QueuePlace | None]:
        self.asked.append((trio.current_time(), list(ids)))
        if self.is_away:
            raise Unavailable("the ledger is away")
        return [self.places.get(each) for each in ids]


def place(number: int, wait_s: float | None = None) -> QueuePlace:
    return QueuePlace("m", number, wait_s)


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def directory() -> ModelDirectory:
    return ModelDirectory(("m",))


@pytest.fixture
async def places(nursery: trio.Nursery, queue: Queue, directory: ModelDirectory) -> QueuePlaces:
    places = QueuePlaces(queue.find, directory)
    nursery.start_soon(places.run)
    return places


async def test_place_is_told_first_and_then_when_it_changes(
    places: QueuePlaces, queue: Queue, autojump_clock: MockClock
) -> None:
    told: list[tuple[float, int]] = []
    queue.places["r"] = place(3, 8.0)
    places.watch("r", lambda standing: told.append((round(trio.current_time(), 2), standing.place)))
    await trio.sleep(2.5)
    queue.places["r"] = place(2, 4.0)
    await trio.sleep(2)
    del queue.places["r"]
    await trio.sleep(3)
    assert told == [(0.25, 3), (3.25, 2)]
    assert [time for time, _ in queue.asked] == pytest.approx([0.25 + each for each in range(8)], abs=0.01)


async def test_request_that_is_served_at_once_costs_no_call(
    places: QueuePlaces, queue: Queue, autojump_clock: MockClock
) -> None:
    with places.watched("r") as watch:
        await trio.sleep(0.2)
    stream = places.watch("s", lambda _: None)
    for _ in range(100):
        stream.quiet_since = trio.current_time()
        await trio.sleep(0.1)
    places.drop(stream)
    await trio.sleep(1)
    assert queue.asked == []
    assert watch.headers == []


async def test_stream_that_waits_again_is_told_its_new_place(
    places: QueuePlaces, queue: Queue, autojump_clock: MockClock
) -> None:
    told: list[QueueStanding] = []
    stream = places.watch("r", told.append)
    queue.places["r"] = place(1)
    await trio.sleep(0.5)
    del queue.places["r"]
    stream.quiet_since = trio.current_time()
    await trio.sleep(2)
    queue.places["r"] = place(1)
    await trio.sleep(2)
    assert told == [QueueStanding(1, None)] * 2


async def test_headers_have_the_first_standing_after_the_wait(
    places: QueuePlaces, queue: Queue, autojump_clock: MockClock
) -> None:
    queue.places["r"] = place(7, 12.4)
    with places.watched("r") as watch:
        await trio.sleep(1)
        queue.places["r"] = place(2, 3.21)
        await trio.sleep(1)
        assert watch.headers == [("x-queue-place", "2"), ("x-queue-estimate-s", "3.2")]
        del queue.places["r"]
        await trio.sleep(5)
    assert watch.headers == [("x-queue-place", "7"), ("x-queue-estimate-s", "12")]
    assert len(queue.asked) == 3  # nobody asks about a request whose wait is over


async def test_estimate_has_the_load_of_a_model_on_demand(
    places: QueuePlaces, queue: Queue, directory: ModelDirectory, autojump_clock: MockClock
) -> None:
    directory.put("m", ModelStatus(ModelState.LOADING, ready_in_s=20.0))
    queue.places |= {"a": place(1, 5.0), "b": place(3, 6.0)}
    assert await places.standing("a") == QueueStanding(1, 20)
    assert await places.standing("b") == QueueStanding(3, 24)
    assert await places.standing("gone") is None


async def test_outage_of_the_ledger_delays_the_news(
    places: QueuePlaces, queue: Queue, autojump_clock: MockClock
) -> None:
    told: list[QueueStanding] = []
    queue.places["r"] = place(2)
    queue.is_away = True
    places.watch("r", told.append)
    await trio.sleep(2)
    assert told == []
    queue.is_away = False
    await trio.sleep(0.5)
    assert told == [QueueStanding(2, None)]


async def test_many_waiting_requests_are_asked_about_in_portions(
    places: QueuePlaces, queue: Queue, autojump_clock: MockClock
) -> None:
    names = [f"r{number}" for number in range(3 * LOOK_AT_MAX)]
    for name in names:
        queue.places[name] = place(1)
        places.watch(name, lambda _: None)
    await trio.sleep(0.9)
    assert [len(ids) for _, ids in queue.asked] == [LOOK_AT_MAX] * 3
    assert sorted(name for _, ids in queue.asked for name in ids) == sorted(names)


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        (QueueStanding(2, 9.0), QueueStanding(2, 9.5), False),
        (QueueStanding(2, 9.0), QueueStanding(2, 7.5), True),
        (QueueStanding(2, 100.0), QueueStanding(2, 95.0), False),
        (QueueStanding(2, None), QueueStanding(2, 1.0), True),
        (QueueStanding(2, None), QueueStanding(2, None), False),
        (QueueStanding(2, 9.0), QueueStanding(1, 9.0), True),
    ],
)
def test_only_changes_that_matter_are_told(before: QueueStanding, now: QueueStanding, *, differs: bool) -> None:
    assert now.differs(before) is differs
