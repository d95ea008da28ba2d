"""Clients that make calls until they are stopped, as many at a time as there are clients."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs
import trio

from llmactors.http.client import HttpClient
from tests.simulation.content.cases import KINDS, case_of
from tests.simulation.content.reader import Reader


@attrs.frozen(kw_only=True)
class ContentSettings:
    """How many clients there are, and what they ask."""

    clients: Sequence[str] = ("mock", "mock")
    """The model that each client asks."""
    plain: bool = False
    """Whether the clients are ordinary ones, for which an answer that is cut is lost, and which keep connections."""
    replay_share: float = 0.3
    """The share of the calls that are made once more at their end."""
    think_s: float = 0.4
    settle_s: float = 120.0
    """How long after `stop` a call may run."""


class ReusedClients(dict[str, HttpClient]):
    """A client for each URL, which goes on using its connection."""

    def __missing__(self, url: str) -> HttpClient:
        return self.setdefault(url, HttpClient(url))


class ContentLoad:
    """Calls of clients, from `run` until `stop`.

    Args:
        urls: Returns the URLs of the gateways, which may change.
        settings: What the clients do.
        unserved: The kinds of calls that a model cannot answer, by the model's name.
        seed: The choices of the clients follow from this seed.
    """

    def __init__(
        self,
        urls: Callable[[], Sequence[str]],
        settings: ContentSettings,
        unserved: Mapping[str, Collection[str]],
        *,
        seed: int,
    ) -> None:
        self.readers: list[Reader] = []
        self._urls = urls
        self._settings = settings
        self._unserved = unserved
        self._seed = seed
        self._stopping = False
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<ContentLoad of {len(self._settings.clients)} clients, {len(self.readers)} calls>"

    async def run(self) -> None:
        """Runs the clients until `stop`, and then until every call has ended or `settle_s` has passed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for number, model in enumerate(self._settings.clients):
                    rng = random.Random(f"content of {self._seed}/{number}")
                    nursery.start_soon(self._client, model, f"{self._seed}/{number}", rng)

    def stop(self) -> None:
        """Stops new calls."""
        self._stopping = True
        self._scope.deadline = trio.current_time() + self._settings.settle_s

    async def _client(self, model: str, name: str, rng: random.Random) -> None:
        await trio.sleep(rng.uniform(0.0, 0.3))
        kinds = {kind: maker for kind, maker in KINDS.items() if kind not in self._unserved.get(model, ())}
        count = 0
        reused = ReusedClients()
        while not self._stopping:
            count += 1
            case = case_of(rng, f"content {name}/{count}", kinds)
            reader = Reader(case, model, f"key {name}/{count}", self._urls, rng)
            if self._settings.plain:
                reader.asker = reused[rng.choice(self._urls())]
            self.readers.append(reader)
            await reader.run()
            if reader.done and not self._settings.plain and rng.random() < self._settings.replay_share:
                await reader.replay()
            await trio.sleep(rng.uniform(0.0, self._settings.think_s))
